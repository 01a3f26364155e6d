"use strict";
// Sorts and filters in place. Without this script the links in the heads and the form do the same by another request.
(function () {
  const table = document.getElementById("runs");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  const all = Array.from(body.rows);
  const search = document.getElementById("search");
  const field = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const total = all.length;

  function value(row, column) {
    const text = row.cells[column].dataset.value;
    return text === "" || text === undefined ? NaN : Number(text);
  }

  function remember() {
    const query = new URLSearchParams(new FormData(search));
    if (!query.get("filter")) query.delete("filter");
    history.replaceState(null, "", "/?" + query);
    document.querySelectorAll("#runs thead a, .sorting a").forEach(function (link) {
      const own = new URL(link.href);
      if (query.get("filter")) own.searchParams.set("filter", query.get("filter"));
      else own.searchParams.delete("filter");
      link.href = own.pathname + own.search;
    });
  }

  function sort(link) {
    const own = new URL(link.href).searchParams;
    const key = own.get("sort"), down = own.get("order") === "down";
    const column = heads.findIndex(function (head) { return head.dataset.key === key; });
    const rows = Array.from(body.rows);
    rows.sort(function (a, b) {
      const x = value(a, column), y = value(b, column);
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y); // unknown stays last either way
      return down ? y - x : x - y;
    });
    body.append.apply(body, rows);
    heads.forEach(function (head, at) {
      if (at === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    search.elements.sort.value = key;
    search.elements.order.value = down ? "down" : "up";
    document.querySelectorAll("#runs thead a, .sorting a").forEach(function (other) {
      const asked = new URL(other.href);
      const mine = asked.searchParams.get("sort") === key;
      if (mine) asked.searchParams.set("order", down ? "up" : "down");
      other.href = asked.pathname + asked.search;
      if (!other.closest(".sorting")) return;
      if (mine) other.setAttribute("aria-current", "true");
      else other.removeAttribute("aria-current");
    });
    remember();
  }

  document.querySelectorAll("#runs thead a, .sorting a").forEach(function (link) {
    link.addEventListener("click", function (event) {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      sort(link);
    });
  });

  function filter() {
    const part = field.value.trim().toLowerCase();
    let n = 0;
    all.forEach(function (row) {
      row.hidden = !row.dataset.text.includes(part);
      n += row.hidden ? 0 : 1;
    });
    shown.textContent = part ? n.toLocaleString("en") + " of " + total.toLocaleString("en") : "";
    remember();
  }
  // Rows that the server left out (its filter, its limit) can only come from the server.
  const whole = search.dataset.whole === "yes";
  if (whole) {
    field.addEventListener("input", filter);
    search.addEventListener("submit", function (event) { event.preventDefault(); filter(); });
    search.querySelector("button").hidden = true;
  }

  const picking = document.getElementById("picking");
  const compare = document.getElementById("compare");
  const ticked = document.getElementById("ticked");
  const most = Number(picking.dataset.most);
  function count() {
    const n = picking.querySelectorAll("input:checked").length;
    compare.disabled = n < 2 || n > most;
    compare.textContent = n < 2 ? "Compare the ticked runs" : "Compare " + n + " runs";
    ticked.textContent = n > most ? n + " are ticked, at most " + most + " can be compared." :
      n === 1 ? "1 is ticked; tick one more." : n === 0 ? "Tick 2 to " + most + " of them." : "";
  }
  picking.addEventListener("change", count);
  window.addEventListener("pageshow", count);
  count();
})();
