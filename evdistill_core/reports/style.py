"""The look of every report page."""

from __future__ import annotations

CSS = (
    """
:root { color-scheme: light dark;
  --ink: #1b1f24; --dim: #57606a; --page: #ffffff; --card: #f6f8fa; --line: #d0d7de;
  --accent: #0a58a8; --good: #1a7f37; --warn: #9a5b00;
  --c0: #0072b2; --c1: #d55e00; --c2: #00876c; --c3: #b0589a; --c4: #8a6d00; --c5: #3d4451; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6edf3; --dim: #9aa5b1; --page: #0f1318; --card: #181e25; --line: #323b46;
  --accent: #7ab8ff; --good: #4cc36a; --warn: #e0a030;
  --c0: #56b4e9; --c1: #f08a3c; --c2: #35c29a; --c3: #dd8fc7; --c4: #e3c33a; --c5: #b9c2cc; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; color: var(--ink);
  background: var(--page); max-width: 1080px; margin: 0 auto; padding: 1.5rem 1.25rem 3rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0.1rem 0 0.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 0.3rem; padding-top: 0.9rem;
  border-top: 1px solid var(--line); overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.4rem 0 0.1rem; overflow-wrap: anywhere; }
p { margin: 0.3rem 0 0.6rem; overflow-wrap: anywhere; }
.kind { color: var(--accent); font-weight: 600; font-size: 0.85rem; letter-spacing: 0.06em;
  text-transform: uppercase; margin: 0; }
.lead { font-size: 1.05rem; max-width: 52rem; }
.note, figcaption { color: var(--dim); font-size: 0.9rem; max-width: 52rem; }
a { color: var(--accent); }
.verdict { border-left: 5px solid var(--c0); background: var(--card); padding: 0.7rem 1rem;
  margin: 1rem 0; border-radius: 0 6px 6px 0; font-size: 1.05rem; }
.verdict.good { border-color: var(--good); } .verdict.warn { border-color: var(--warn); }
.verdict b { display: block; font-size: 0.85rem; color: var(--dim); }
.scores { display: flex; flex-wrap: wrap; gap: 0.7rem; margin: 1rem 0; padding: 0;
  list-style: none; }
.scores li { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 0.6rem 0.9rem; min-width: 9.5rem; flex: 1 1 9.5rem; max-width: 19rem; }
.scores .name { color: var(--dim); font-size: 0.85rem; display: block; }
.scores .value { font-size: 1.55rem; font-weight: 650; line-height: 1.3; display: block;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.scores .more { color: var(--dim); font-size: 0.8rem; display: block; }
.next { margin: 0.4rem 0 0; padding: 0; list-style: none; }
.next li { margin: 0 0 0.7rem; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; margin: 0.2rem 0;
  padding: 0.55rem 0.8rem; overflow-x: auto; font: 13px/1.5 ui-monospace, Menlo, Consolas,
  "DejaVu Sans Mono", monospace; }
.next pre, .origin code { white-space: pre-wrap; overflow-wrap: anywhere; }
code { font: 0.9em ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.6rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.28rem 0.8rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; }
th { font-weight: 600; font-size: 0.88rem; color: var(--dim); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0.2rem; overflow-wrap: anywhere;
  max-width: 24rem; }
td.text { text-align: left; overflow-wrap: anywhere; max-width: 34rem; }
th.text { text-align: left; }
tr.total td { font-weight: 600; border-top: 2px solid var(--line); }
td.bar { min-width: 7rem; }
td.bar svg { display: block; width: 100%; height: 4px; margin-top: 1px; }
td.bar rect { fill: var(--c0); } td.bar rect.rest { fill: var(--line); }
.origin td { text-align: left; overflow-wrap: anywhere; }
.origin td:first-child { color: var(--dim); white-space: nowrap; }
.swatch { display: inline-block; width: 0.85em; height: 0.85em; border-radius: 3px;
  border: 1px solid var(--dim); margin-right: 0.45em; vertical-align: -0.08em; }
.legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1.1rem; margin: 0.4rem 0 0.6rem; padding: 0;
  list-style: none; font-size: 0.9rem; }
.legend li { overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(19.5rem, 1fr));
  gap: 1rem 1.2rem; margin: 0.5rem 0 1rem; }
figure { margin: 0; break-inside: avoid; min-width: 0; }
.charts figcaption b, .single figcaption b { color: var(--ink); display: block; }
.charts figcaption { min-height: 2.6rem; font-size: 0.84rem; line-height: 1.35; }
.wide { grid-column: 1 / -1; }
svg.chart { width: 100%; height: auto; display: block; }
svg.chart text { fill: var(--dim); font: 11px system-ui, sans-serif; }
svg.chart .grid { stroke: var(--line); stroke-width: 1; }
svg.chart .axis { stroke: var(--dim); stroke-width: 1; }
svg.chart polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
"""
    + "".join(
        f"svg .s{i} {{ stroke: var(--c{i}); }} svg circle.s{i} {{ fill: var(--c{i}); }}\n"
        for i in range(6)
    )
    + """
svg .dash { stroke-dasharray: 6 3; } svg .dots { stroke-dasharray: 2 3; }
.key { display: inline-block; width: 1.5em; height: 0.9em; margin-right: 0.4em;
  vertical-align: -0.1em; }
.key line { stroke-width: 2.4; }
.panels { display: grid; gap: 4px; margin: 0.5rem 0 1rem; }
.panels .head { color: var(--dim); font-size: 0.88rem; font-weight: 600; }
.panels img, .flow img { width: 100%; height: auto; display: block; image-rendering: pixelated;
  border: 1px solid var(--line); background: #1c1c1c; }
.flow { display: flex; flex-wrap: wrap; gap: 6px; margin: 0.5rem 0 1rem; }
.flow img { width: 128px; }
figure.picture img { max-width: 100%; height: auto; border: 1px solid var(--line);
  border-radius: 4px; }
table.confusion td { text-align: center; padding: 0.3rem 0.5rem; }
table.confusion td:first-child { text-align: left; }
table.confusion th { vertical-align: bottom; max-width: 8rem; overflow-wrap: anywhere; }
details { margin: 0.8rem 0; } summary { cursor: pointer; color: var(--accent); font-weight: 600; }
footer { margin-top: 2.5rem; color: var(--dim); font-size: 0.85rem; }
@media print {
  :root { --ink: #000; --dim: #444; --page: #fff; --card: #f4f4f4; --line: #bbb;
    --accent: #003f7f; --good: #0a5a20; --warn: #7a4800;
    --c0: #0072b2; --c1: #d55e00; --c2: #00876c; --c3: #b0589a; --c4: #8a6d00; --c5: #3d4451; }
  body { max-width: none; padding: 0; font-size: 10.5pt; print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
  h2, h3 { break-after: avoid; } table, .scores, .verdict { break-inside: avoid; }
  .charts { grid-template-columns: repeat(3, 1fr); }
  details::details-content { content-visibility: visible; height: auto; }
  pre { white-space: pre-wrap; }
}
"""
)
