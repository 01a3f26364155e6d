// Sorting and filtering of the table of classes. Without this script the table stands there, worst recall first.
(function () {
  "use strict";
  const table = document.getElementById("classes");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);

  function value(row, column) {
    const text = row.cells[column].dataset.value;
    return text === "" || text === undefined ? NaN : Number(text);
  }

  function sort(column, down) {
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
  }

  heads.forEach(function (head, column) {
    if (head.dataset.sort === "none") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append.apply(button, Array.from(head.childNodes));
    head.append(button);
    button.addEventListener("click", function () {
      sort(column, head.getAttribute("aria-sort") === "ascending");
    });
  });
  heads[2].setAttribute("aria-sort", "ascending");

  const field = document.getElementById("filter");
  const shown = document.getElementById("shown");
  function filter() {
    const part = field.value.trim().toLowerCase();
    let n = 0;
    Array.from(body.rows).forEach(function (row) {
      const name = row.cells[1].querySelector("bdi").title.toLowerCase();
      row.hidden = !name.includes(part);
      n += row.hidden ? 0 : 1;
    });
    shown.textContent = part ? n + " of " + body.rows.length : "";
  }
  field.addEventListener("input", filter);
  field.closest("p").hidden = body.rows.length < 8;
})();
