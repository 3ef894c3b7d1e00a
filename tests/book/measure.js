// What a reader cannot see: text, equations and pictures that a box cuts off, or that stand outside of the page.
// Inside a box that scrolls, everything can be reached but what lies left of its beginning.
const width = document.documentElement.clientWidth, cut = [];
const name = (e) => e.tagName.toLowerCase() + (e.id ? `#${e.id}` : "") + [...e.classList].slice(0, 2).map((c) => `.${c}`).join("");
const visible = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true });
const reach = ({ left, right }, element, what) => {
  for (let box = element; box && box !== document.documentElement; box = box.parentElement) {
    const style = getComputedStyle(box);
    if (style.position === "fixed" || box.clientWidth <= 1) return; // lies over the page; is for screen readers alone
    if (style.overflowX === "visible" || ["inline", "contents"].includes(style.display)) continue;
    const from = box.getBoundingClientRect().left + box.clientLeft, to = from + box.clientWidth;
    const scrolls = ["auto", "scroll"].includes(style.overflowX);
    if (left < from - (scrolls ? box.scrollLeft : 0) - 2 || (right > to + 2 && !scrolls)) return cut.push(`${what} in ${name(box)}`);
    [left, right] = [Math.max(left, from), Math.min(right, to)];
    if (right <= left) return;
  }
  if (left < -2 || right > width + 2) cut.push(`${what} outside of the page`);
};
const main = document.querySelector("main") ?? document.body, words = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
for (let node; (node = words.nextNode()); ) {
  const parent = node.parentElement;
  if (!node.textContent.trim() || !visible(parent) || parent.closest("script, style, option, mjx-assistive-mml")) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  for (const box of range.getClientRects()) reach(box, parent, `"${node.textContent.trim().slice(0, 40)}"`);
}
for (const e of main.querySelectorAll("img, canvas, video, input, button, select, mjx-container")) {
  if (visible(e)) reach(e.getBoundingClientRect(), e.parentElement, name(e));
}
return [[...new Set(cut)], document.documentElement.scrollWidth - width];
