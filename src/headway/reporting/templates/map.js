// The feature map: what lies under the pointer, or under the arrow keys. Without this script the map stands there.
(function () {
  "use strict";
  const map = document.getElementById("feature-map");
  if (!map) return;
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const views = Array.from(map.querySelectorAll("figure.map-view"));
  const stage = map.querySelector(".map-views");
  const card = map.querySelector(".map-card"), shown = map.querySelector(".map-shown");
  const image = shown.querySelector("img"), blank = shown.querySelector(".blank");
  const n = data.labels.length;
  let chosen = -1, only = -1;

  function view() {
    return Number(map.querySelector("input[name=map-view]:checked").value);
  }

  function wrong(at) {
    return data.labels[at] !== data.predicted[at];
  }

  function open(at) {
    return only < 0 || data.labels[at] === only;
  }

  function show(at) {
    chosen = at;
    views.forEach(function (figure, number) {
      const here = figure.querySelector(".here");
      here.setAttribute("cx", data.places[number][at][0]);
      here.setAttribute("cy", data.places[number][at][1]);
    });
    const picture = data.pictures[data.picture[at]];
    image.hidden = !picture;
    blank.hidden = Boolean(picture);
    if (picture) image.src = picture;
    const label = data.classes[data.labels[at]], said = data.classes[data.predicted[at]];
    image.alt = data.names[at];
    shown.querySelector(".said").textContent = said + " " + data.sure[at];
    shown.querySelector(".was").textContent = wrong(at) ? "wrong: it is " + label : "right";
    shown.querySelector(".file").textContent = data.names[at];
    shown.hidden = false;
    card.querySelector(".map-hint").hidden = true;
  }

  function nearest(x, y, most) {
    const places = data.places[view()];
    let best = -1, least = most * most;
    for (let at = 0; at < n; at++) {
      const across = places[at][0] - x, down = places[at][1] - y, far = across * across + down * down;
      if (far < least && open(at)) { best = at; least = far; }
    }
    return best;
  }

  function point(event) {
    const svg = views[view()].querySelector("svg");
    const box = svg.getBoundingClientRect(), wide = svg.viewBox.baseVal.width;
    const unit = wide / box.width;
    const at = nearest((event.clientX - box.left) * unit, (event.clientY - box.top) * unit, 14 * Math.max(1, unit));
    if (at >= 0 && at !== chosen) show(at);
  }

  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function step(way) {
    const places = data.places[view()], from = places[chosen];
    let best = -1, least = Infinity;
    for (let at = 0; at < n; at++) {
      const across = places[at][0] - from[0], down = places[at][1] - from[1];
      const along = across * way[0] + down * way[1], beside = Math.abs(across * way[1] + down * way[0]);
      const far = along + 2 * beside;
      if (at !== chosen && open(at) && along > 0 && beside <= 2 * along && far < least) { best = at; least = far; }
    }
    if (best >= 0) show(best);
  }

  // Mistakes that have a picture come first: they are those that it was surest of.
  const mistakes = data.labels.map(function (_, at) { return at; }).filter(wrong);
  mistakes.sort(function (a, b) { return (data.picture[a] < 0) - (data.picture[b] < 0); });

  function nextMistake() {
    const some = mistakes.filter(open);
    if (some.length) show(some[(some.indexOf(chosen) + 1) % some.length]);
  }

  function key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const mistake = event.key === "m" || event.key === "M", way = ways[event.key];
    if (!mistake && !way) return;
    event.preventDefault();
    if (mistake) nextMistake();
    else if (chosen < 0) show(nearest(0, 0, Infinity));
    else step(way);
  }

  stage.tabIndex = 0;
  stage.setAttribute("aria-label", "Feature map. Arrow keys go from image to image, M to the next mistake.");
  stage.addEventListener("keydown", key);
  views.forEach(function (figure) {
    const svg = figure.querySelector("svg");
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
  });

  const pick = document.getElementById("map-class");
  pick.addEventListener("change", function () {
    only = pick.value === "" ? -1 : Number(pick.value);
    map.classList.toggle("one", only >= 0);
    map.querySelectorAll(".map-views .mark").forEach(function (mark) {
      mark.classList.toggle("lit", mark.classList.contains("of" + only));
    });
  });
  map.querySelector(".map-pick").hidden = data.classes.length < 3;
  card.hidden = false;
})();
