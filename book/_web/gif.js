// A gray animated gif, written by hand: 32 shades, LZW, for ever. frames: arrays of h * w numbers in [-1, 1].
export function gif(frames, w, { enlarge = 4, fps = 10 } = {}) {
  const h = frames[0].length / w, [width, height] = [w * enlarge, h * enlarge], bytes = [], bits = 5;
  const word = (n) => bytes.push(n & 255, n >> 8);
  const text = (s) => [...s].forEach((c) => bytes.push(c.charCodeAt(0)));
  text("GIF89a"); word(width); word(height); bytes.push(0x80 | (bits - 1), 0, 0);
  for (let i = 0; i < 1 << bits; i++) { const gray = Math.round((255 * i) / 31); bytes.push(gray, gray, gray); }
  bytes.push(0x21, 0xff, 11); text("NETSCAPE2.0"); bytes.push(3, 1, 0, 0, 0);
  for (const frame of frames) {
    bytes.push(0x21, 0xf9, 4, 4); word(Math.round(100 / fps)); bytes.push(0, 0);
    bytes.push(0x2c); [0, 0, width, height].forEach(word); bytes.push(0);
    const shades = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      const value = frame[Math.floor(y / enlarge) * w + Math.floor(x / enlarge)];
      shades[y * width + x] = Math.round(31 * Math.min(1, Math.max(0, (value + 1) / 2)));
    }
    const packed = lzw(shades, bits);
    bytes.push(bits);
    for (let i = 0; i < packed.length; i += 255) { const part = packed.slice(i, i + 255); bytes.push(part.length, ...part); }
    bytes.push(0);
  }
  bytes.push(0x3b);
  return new Blob([Uint8Array.from(bytes)], { type: "image/gif" });
}

function lzw(values, bits) {
  const clear = 1 << bits, end = clear + 1, out = [];
  let codes, next, width, pending = 0, count = 0;
  const put = (code) => {
    pending |= code << count;
    count += width;
    while (count >= 8) { out.push(pending & 255); pending >>>= 8; count -= 8; }
  };
  const reset = () => { codes = new Map(); next = end + 1; width = bits + 1; };
  reset(); put(clear);
  let prefix = values[0];
  for (let i = 1; i < values.length; i++) {
    const key = prefix * 256 + values[i];
    if (codes.has(key)) { prefix = codes.get(key); continue; }
    put(prefix);
    codes.set(key, next++);
    if (next - 1 === 1 << width && width < 12) width++;
    if (next > 4095) { put(clear); reset(); }
    prefix = values[i];
  }
  put(prefix); put(end);
  if (count) out.push(pending & 255);
  return out;
}
