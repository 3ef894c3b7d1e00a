// What is wider than its column scrolls, and the keyboard reaches it; see book.css. The theme does so for code and its own tables alone.
(() => {
  const boxes = ".bd-article :is(div.math, span.wide-math, pre, .pst-scrollable-table-container, .text_html > div)";
  const tabStops = () => {
    for (const math of document.querySelectorAll(".bd-article span.math")) {
      math.classList.remove("wide-math");
      const column = math.parentElement.closest("p, li, td, dd, figcaption, div");
      math.classList.toggle("wide-math", math.getBoundingClientRect().width > column.clientWidth);
    }
    for (const box of document.querySelectorAll(boxes)) box.tabIndex = box.scrollWidth > box.clientWidth ? 0 : -1;
  };
  // A button's name holds what is written on it. The icons of the switch name themselves, and are drawn anew: their names go first.
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".theme-switch-button [title]").forEach((icon) => icon.removeAttribute("title"));
    document.querySelectorAll(".search-button__button").forEach((button) => button.setAttribute("aria-label", button.innerText.trim().replace(/\s+/g, " ") || "Search"));
  });
  addEventListener("load", async () => {
    await window.MathJax?.startup?.promise;
    new ResizeObserver(() => { tabStops(); setTimeout(tabStops, 350); }).observe(document.querySelector(".bd-article") ?? document.body); // after the theme's own
  });
})();
