// The images behind a cell of the confusion matrix. Without this script a cell is a link to them (:target).
(function () {
  "use strict";
  const panels = Array.from(document.querySelectorAll(".behind"));
  if (!panels.length) return;
  const links = Array.from(document.querySelectorAll('a[href^="#cell-"]'));
  const cells = links.filter(function (link) { return link.closest("svg"); });
  const target = function (link) { return link.getAttribute("href").slice(1); };
  let last = null;

  function open(key) {
    panels.forEach(function (panel) { panel.classList.toggle("open", panel.id === key); });
    links.forEach(function (link) {
      if (target(link) === key) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
    const chosen = cells.find(function (link) { return target(link) === key; });
    if (chosen) roam(chosen);
  }

  // One cell is reached with Tab, its neighbours with the arrow keys.
  function roam(chosen) {
    cells.forEach(function (link) { link.setAttribute("tabindex", link === chosen ? "0" : "-1"); });
  }

  function neighbour(link, key) {
    const box = link.getBoundingClientRect();
    const along = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
    const across = key === "ArrowRight" || key === "ArrowLeft";
    let best = null, least = Infinity;
    cells.forEach(function (other) {
      const at = other.getBoundingClientRect();
      const ahead = along * (across ? at.left - box.left : at.top - box.top);
      const beside = Math.abs(across ? at.top - box.top : at.left - box.left);
      if (ahead > 1 && ahead + 4 * beside < least) { best = other; least = ahead + 4 * beside; }
    });
    return best;
  }

  links.forEach(function (link) {
    link.addEventListener("click", function (event) {
      event.preventDefault();
      last = link;
      open(target(link));
      const panel = document.getElementById(target(link));
      if (event.detail === 0) panel.focus({ preventScroll: true }); // from the keyboard
      panel.scrollIntoView({ block: "nearest" });
    });
  });
  cells.forEach(function (link) {
    link.addEventListener("keydown", function (event) {
      if (!event.key.startsWith("Arrow")) return;
      event.preventDefault();
      const next = neighbour(link, event.key);
      if (next) { roam(next); next.focus(); }
    });
  });
  panels.forEach(function (panel) {
    panel.addEventListener("keydown", function (event) {
      if (event.key === "Escape" && last) last.focus();
    });
  });

  document.documentElement.classList.add("scripted");
  const asked = panels.find(function (panel) { return "#" + panel.id === location.hash; });
  open((asked || panels[0]).id);
})();
