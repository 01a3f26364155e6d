"""What every display stands in: one frame with its style, tables, a line of text. Names go in as text, never as markup.

Notebooks that do not show SVG (a preview on the web, say) still show the tables, so every number stands in one.
"""

from __future__ import annotations

from collections.abc import Sequence

from headway.reporting.svg import Safe, element

Cell = str  # text, or Safe: a figure

# The figures of `reporting` take their colours from classes. A notebook's own colours are followed where it names them.
_STYLE = """
.headway{--ink:var(--jp-ui-font-color1,currentcolor);--quiet:var(--jp-ui-font-color2,#6b726f);
--paper:var(--jp-layout-color0,#fff);--line:var(--jp-border-color2,#cfd4d0);--accent:#178a79;--on:#fff;
color:var(--ink);font-size:13px;line-height:1.45;max-width:54rem}
.headway p{margin:.3rem 0}.headway .quiet-text{color:var(--quiet)}
.headway .lead{font-size:1.15rem;font-weight:600}
.headway table{border-collapse:collapse;margin:.4rem 0;font-size:13px}
.headway th,.headway td{text-align:left;padding:.2rem .9rem .2rem 0;border-bottom:1px solid var(--line);
font-weight:400;background:none;vertical-align:middle}
.headway thead th{color:var(--quiet)}.headway .number{text-align:right;font-variant-numeric:tabular-nums}
.headway td.figure{min-width:9rem}.headway .side{display:flex;flex-wrap:wrap;gap:1rem 2.5rem;align-items:flex-start}
.headway svg{display:block;overflow:visible;font-size:12px;fill:var(--ink)}
.headway svg.line{max-width:32rem}.headway svg.natural{width:auto;max-width:100%}
.headway svg.picture:not(.natural){width:100%;max-width:22rem;height:auto}
.headway .axis{stroke:var(--quiet);stroke-width:1;fill:none}
.headway .track{stroke:var(--line);stroke-width:1}.headway .tick,.headway .label,.headway .axis-name,.headway text.note{
fill:var(--quiet);font-size:11px}
.headway .strong{fill:var(--ink);font-weight:600}.headway .guess{stroke:var(--ink);stroke-width:1.5}
.headway .whisker{stroke:var(--accent);stroke-width:2}.headway .whisker.wide{stroke-width:5;opacity:.38}
.headway .whisker.quiet{stroke:var(--quiet)}.headway .dot{fill:var(--accent)}.headway .dot.quiet{fill:var(--quiet)}
.headway .diagonal{stroke:var(--quiet);stroke-dasharray:2 4}.headway .stalk{stroke:var(--accent)}
.headway .bar{fill:var(--quiet);opacity:.55}.headway .frame{fill:none;stroke:var(--line)}
.headway .cell.right{fill:var(--accent)}.headway .cell.wrong{fill:var(--ink)}
.headway rect.cell{stroke:var(--line);stroke-width:1}.headway .cell-on{fill:var(--on);font-weight:600}
.headway .cell.wrong+.cell-on{fill:var(--paper)}.headway .cell-none{fill:var(--quiet);opacity:.5}
.headway details pre{white-space:pre-wrap;font-size:12px;margin:.3rem 0}.headway summary{cursor:pointer}
.headway progress{width:14rem;vertical-align:middle;accent-color:var(--accent)}
""".replace("\n", "")


def framed(*parts: str) -> str:
    """The parts in a frame of their own, with the style that the figures need."""
    return element("div", element("style", Safe(_STYLE)), *parts, class_="headway")


def lead(text: str) -> Safe:
    """The one line that is read first."""
    return element("p", text, class_="lead")


def line(text: str) -> Safe:
    """A sentence."""
    return element("p", text)


def quiet(text: str) -> Safe:
    """A sentence of less weight."""
    return element("p", text, class_="quiet-text")


def beside(*parts: str) -> Safe:
    """Figures and tables next to each other where there is room."""
    return element("div", *parts, class_="side")


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], numbers: Sequence[int] = ()) -> Safe:
    """A table; the columns `numbers` (from 0) are flush right. Cells that are `Safe` are figures."""
    top = [element("th", name, class_="number" if at in numbers else None) for at, name in enumerate(head)]
    body = [element("tr", *[_cell(cell, at in numbers) for at, cell in enumerate(row)]) for row in rows]
    return element("table", element("thead", element("tr", *top)), element("tbody", *body))


def _cell(cell: Cell, number: bool) -> Safe:
    kind = "figure" if isinstance(cell, Safe) else "number" if number else None
    return element("td", cell, class_=kind)
