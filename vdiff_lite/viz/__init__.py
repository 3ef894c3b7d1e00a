"""What a reader looks at: film strips, players, sliders, tables."""

from vdiff_lite.viz.network import network_diagram
from vdiff_lite.viz.players import png_data_url, show_clips
from vdiff_lite.viz.strips import COLORS, STYLES, film_strip, framed, plot_intervals, plot_lines, to_uint8
from vdiff_lite.viz.tables import show_table
from vdiff_lite.viz.writers import ClipWriter, check_clip_path, encode_gif, encode_mp4, save_clip

__all__ = ["COLORS", "STYLES", "ClipWriter", "check_clip_path", "encode_gif", "encode_mp4", "film_strip",
           "framed", "network_diagram", "plot_intervals", "plot_lines", "png_data_url", "save_clip",
           "show_clips", "show_table", "to_uint8"]
