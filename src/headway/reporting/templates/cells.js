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

  // The heat map of many classes tells the cell under the pointer, or the one that the arrow keys lead to.
  const heat = document.getElementById("heat");
  if (heat) focusOn(heat, heat.querySelector("svg"), document.getElementById("under"));

  function focusOn(place, map, under) {
    const names = [];
    document.querySelectorAll("#classes tbody tr").forEach(function (row) {
      names[Number(row.cells[0].dataset.value)] = row.cells[1].querySelector("bdi").title;
    });
    const counts = map.dataset.counts.split(";").map(function (row) {
      return new Map(row ? row.split(",").map(function (cell) { return cell.split(":").map(Number); }) : []);
    });
    const n = counts.length;
    const frame = map.querySelector(".frame");
    const cross = map.querySelector(".cross");
    const left = Number(frame.getAttribute("x")), top = Number(frame.getAttribute("y"));
    const side = Number(frame.getAttribute("width"));
    let at = null;

    function show(row, column) {
      at = [Math.min(n - 1, Math.max(0, row)), Math.min(n - 1, Math.max(0, column))];
      const x = left + (at[1] + 0.5) * side / n, y = top + (at[0] + 0.5) * side / n;
      cross.setAttribute("d", "M" + left + " " + y + "h" + side + "M" + x + " " + top + "v" + side);
      const times = counts[at[0]].get(at[1]) || 0;
      const said = at[0] === at[1] ? " named right: " : " taken for " + names[at[1]] + ": ";
      under.textContent = names[at[0]] + said + times + ".";
    }

    map.addEventListener("pointermove", function (event) {
      const box = frame.getBoundingClientRect();
      const row = Math.floor((event.clientY - box.top) / box.height * n);
      const column = Math.floor((event.clientX - box.left) / box.width * n);
      if (row >= 0 && column >= 0 && row < n && column < n) show(row, column);
    });
    map.addEventListener("click", function () {
      const key = at && "cell-" + (at[0] + 1) + "-" + (at[1] + 1);
      if (panels.some(function (panel) { return panel.id === key; })) open(key);
    });
    place.addEventListener("keydown", function (event) {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      if (at) show(at[0] + step[0], at[1] + step[1]);
      else show(0, 0);
    });
  }

  document.documentElement.classList.add("scripted");
  const asked = panels.find(function (panel) { return "#" + panel.id === location.hash; });
  open((asked || panels[0]).id);
})();
