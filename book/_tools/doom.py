"""Clips of a real game to practice on, for chapter 12: walks through levels of Freedoom, as mp4 files.

ViZDoom 1.3.2 (MIT) runs the game without a window; the levels are Freedoom's (BSD), which it brings along. A
bot walks, turns where the way is blocked, opens doors, and now and then stands and looks round. Every level
gives one file; those of the last ones are what `vdiff train` holds out.

    pip install -e '.[doom]'
    python book/_tools/doom.py my_walks/ --seconds 60
    vdiff train --out mine --data videos:my_walks/ --channels 3 --start-from rooms32
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import vizdoom
from tqdm.auto import tqdm

from vdiff_lite import viz

LEVELS = [("freedoom1.wad", f"E{episode}M{n}") for episode in range(1, 5) for n in range(1, 10)]
LEVELS += [("freedoom2.wad", f"MAP{n:02d}") for n in range(1, 31)]
FPS = 17.5  # the game's 35 tics per second, two of them a frame
TURNS = (-6.0, -4.0, -3.0, 3.0, 4.0, 6.0)  # degrees in a tic


def game(wad: str, level: str, seed: int) -> vizdoom.DoomGame:
    """A level without monsters, which shows 160 by 120 pixels and how far they are."""
    doom = vizdoom.DoomGame()
    doom.set_doom_game_path(str(Path(vizdoom.__file__).with_name(wad)))
    doom.set_doom_map(level)
    doom.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    doom.set_screen_format(vizdoom.ScreenFormat.RGB24)
    doom.set_window_visible(False)
    for hide in (doom.set_render_hud, doom.set_render_weapon, doom.set_render_crosshair):
        hide(False)
    doom.set_depth_buffer_enabled(True)
    doom.set_episode_timeout(0)
    doom.set_seed(seed)
    button, variable = vizdoom.Button, vizdoom.GameVariable
    doom.set_available_buttons([button.MOVE_FORWARD, button.TURN_LEFT_RIGHT_DELTA, button.USE])
    doom.set_available_game_variables([variable.POSITION_X, variable.POSITION_Y])
    doom.add_game_args("-nomonsters +sv_cheats 1")
    doom.init()
    doom.send_game_command("god")
    return doom


def walk(doom: vizdoom.DoomGame, frames: int, random: np.random.Generator):
    """Frames of one walk, (3, 120, 120) in [-1, 1]."""
    turn, turning, looking, places = 0.0, 0, 0, []
    for n in range(frames):
        if doom.is_episode_finished():  # an exit was found
            doom.new_episode()
            doom.send_game_command("god")
            places.clear()
        state = doom.get_state()
        yield torch.tensor(state.screen_buffer[:, 20:140]).permute(2, 0, 1) / 127.5 - 1
        places = [*places[-19:], state.game_variables]
        left, ahead, right = (state.depth_buffer[50:80, x:x + 40].mean() for x in (10, 60, 110))
        stuck = len(places) == 20 and np.abs(places[-1] - places[0]).sum() < 40
        if looking or turning:
            looking, turning = max(looking - 1, 0), max(turning - 1, 0)
        elif random.random() < 0.012:
            looking, turn = int(random.integers(10, 60)), random.choice(TURNS)
        elif stuck:
            turning, turn = int(random.integers(8, 20)), random.choice([-9.0, 9.0])
        elif ahead < 12:
            turn = 6.0 if right >= left else -6.0
        elif random.random() < 0.1:
            turn = random.choice([0.0, 0.0, *TURNS])
        elif ahead > 25 and random.random() < 0.2:
            turn = 0.0
        forward = not looking and not turning and ahead > 5
        doom.make_action([float(forward), turn, float(n % 8 == 0)], 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder to write one file for each level into")
    parser.add_argument("--levels", type=int, default=len(LEVELS), help="how many levels, of 66")
    parser.add_argument("--seconds", type=float, default=60, help="of each walk")
    args = parser.parse_args()
    out = args.folder.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the game leaves files where it runs
        for number, (wad, level) in enumerate(tqdm(LEVELS[:args.levels], unit=" levels")):
            doom = game(wad, level, number)
            pictures = walk(doom, round(FPS * args.seconds), np.random.default_rng(number))
            viz.save_clip(pictures, out / f"{wad[:9]}_{level}.mp4", FPS, enlarge=1)
            doom.close()
        os.chdir(out)
    print(f"{args.levels} walks of {args.seconds:g} s, {FPS:g} frames per second, in {args.folder}")


if __name__ == "__main__":
    main()
