"""The style sheet of the page. Colours are Okabe and Ito's, told apart by colour-blind readers."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fdfdfc; --card: #ffffff; --ink: #1d2228; --faint: #636b76; --line: #e3e5e8;
  --grid: #eceef0; --good: #00704d; --bad: #b04000; --wash: #eef6f2;
  --m0: #0072b2; --m1: #c46a00; --m2: #00866a; --m3: #a8558a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --card: #1b1f25; --ink: #e6e8eb; --faint: #9aa3af; --line: #30363e;
    --grid: #262b32; --good: #4fc79a; --bad: #f0925a; --wash: #1a2a26;
    --m0: #56b4e9; --m1: #e69f00; --m2: #35c2a0; --m3: #dd92c2;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
    "Liberation Sans", Arial, sans-serif;
}
main { max-width: 1140px; margin: 0 auto; padding: 56px 28px 80px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 6px; }
h2 { font-size: 20px; letter-spacing: -.01em; margin: 56px 0 14px; }
h3 { font-size: 16px; margin: 28px 0 10px; }
h3 span { color: var(--faint); font-weight: 400; font-size: 13px; margin-left: 8px; }
a { color: var(--m0); }
p { margin: 0 0 12px; max-width: 74ch; }
.faint, .notes { color: var(--faint); font-size: 14px; }
.lead { font-size: 18px; margin: 22px 0 0; }
.lead b { font-variant-numeric: tabular-nums; white-space: nowrap; }
.after { margin-top: 16px; }
.notes { padding-left: 18px; max-width: 88ch; }
.chart { display: block; width: 100%; height: auto; overflow: visible; }
.chart text { fill: var(--ink); font-size: 13px; }
.chart .title { font-weight: 600; font-size: 14px; }
.chart .tick { fill: var(--faint); font-size: 12px; font-variant-numeric: tabular-nums; }
.chart .end { text-anchor: end; } .chart .mid { text-anchor: middle; }
.chart .grid { stroke: var(--grid); } .chart .axis { stroke: var(--faint); }
.chart polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart .bar { fill: none; stroke-width: 1.5; opacity: .75; }
.chart .label { font-weight: 600; } .chart .label.level { fill: var(--faint); font-weight: 400; }
.full path, .floor path { stroke: var(--faint); stroke-width: 1.6; fill: none; }
.full path { stroke-dasharray: 7 5; }
.floor path { stroke-dasharray: 1 5; stroke-width: 2.4; stroke-linecap: round; }
.full rect, .floor rect { fill: var(--faint); opacity: .09; }
.panels {
  display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 22px 20px;
  margin-top: 22px;
}
@media (max-width: 900px) { .panels { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 580px) { .panels { grid-template-columns: minmax(0, 1fr); } }
.narrow { display: none; }
.methods { list-style: none; padding: 0; margin: 0 0 22px; max-width: 88ch; font-size: 14px; }
.methods li { display: flex; gap: 10px; margin: 0 0 4px; }
.sign { flex: none; width: 24px; height: 12px; margin-top: 5px; overflow: visible; }
.scroll { overflow-x: auto; }
table {
  border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums;
}
th, td { padding: 6px 8px; text-align: right; white-space: nowrap; }
th {
  font-weight: 600; color: var(--faint); vertical-align: bottom; line-height: 1.3;
  border-bottom: 1px solid var(--line); white-space: normal;
}
.numbers thead small { display: block; min-width: 0; margin: 0; text-align: right; }
th:first-child, td:first-child { text-align: left; padding-left: 2px; }
tbody td { border-bottom: 1px solid var(--grid); }
td small, thead small {
  display: inline-block; min-width: 7em; margin-left: 7px; text-align: left; color: var(--faint);
  font-size: 12.5px; font-weight: 400;
}
td.bars svg { display: block; width: 104px; height: 16px; }
.way { stroke: var(--line); stroke-width: 6; stroke-linecap: round; }
.range { stroke: var(--ink); stroke-width: 1.4; opacity: .6; }
td.bars { padding-right: 2px; width: 112px; }
.made th:nth-child(2), .made td:nth-child(2) { text-align: left; white-space: normal; }
.numbers td:first-child { padding-left: 20px; position: relative; }
.dot { position: absolute; left: 2px; top: 12px; width: 11px; height: 11px; overflow: visible; }
.numbers td small.narrow { display: none; }
@media (max-width: 720px) {
  main { padding: 28px 14px 56px; }
  .wide, .numbers .time, .numbers .bars, .numbers .tokens, .numbers thead small { display: none; }
  .narrow, .numbers td small.narrow { display: block; }
  table { font-size: 13px; }
  th, td { padding: 6px 3px; }
  .numbers td:first-child, .made td:nth-child(5) { white-space: normal; }
  .numbers td:first-child { padding-left: 18px; }
  .numbers small { display: block; min-width: 0; margin: 0; text-align: right; font-size: 11px; }
  .numbers small.narrow { text-align: left; white-space: nowrap; }
  .numbers td small { letter-spacing: -.02em; }
  h3 span { display: block; margin: 0; }
}
details { border-top: 1px solid var(--line); }
details:last-of-type { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; padding: 12px 2px; font-weight: 600; }
summary span { color: var(--faint); font-weight: 400; margin-left: 8px; font-size: 14px; }
.pair, .pair:last-of-type { border: 0; margin: 0 0 10px 16px; }
.pair summary { font-size: 15px; padding: 8px 2px; }
.case {
  display: grid; grid-template-columns: 240px minmax(0, 1fr); gap: 22px; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; padding: 18px; margin: 0 0 14px;
}
@media (max-width: 640px) { .case { grid-template-columns: minmax(0, 1fr); } }
figure { margin: 0 0 10px; }
figure img { display: block; width: 240px; max-width: 100%; border-radius: 6px; }
figure:last-child { margin: 0; }
figcaption { color: var(--faint); font-size: 12.5px; margin-top: 4px; }
.question { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 12px; }
.question b { font-weight: 600; } .question span, .key { color: var(--faint); font-size: 13px; }
.key { float: right; margin-left: 12px; }
.sides { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 12px; }
.side { border-left: 3px solid var(--line); padding: 2px 0 2px 12px; overflow-wrap: anywhere; }
.side.good { border-color: var(--good); } .side.bad { border-color: var(--bad); }
.side h4 { margin: 0; font-size: 13px; font-weight: 400; color: var(--faint); }
.good .verdict { color: var(--good); } .bad .verdict { color: var(--bad); }
.verdict { font-weight: 600; }
.answer { white-space: pre-wrap; margin: 2px 0 0; font-size: 17px; }
.captions { list-style: none; margin: 14px 0 0; padding: 0; font-size: 14px; }
.captions h4 { margin: 0 0 4px; font-size: 13px; font-weight: 400; color: var(--faint); }
.captions li {
  padding: 4px 10px; border-radius: 5px; color: var(--faint); overflow-wrap: anywhere;
}
.captions .chosen { background: var(--wash); color: var(--ink); }
.captions i {
  font-style: normal; font-variant-numeric: tabular-nums; float: right; margin-left: 12px;
}
.captions .chosen i { color: var(--good); font-weight: 600; }
""" + "".join(
    f"""
.m{n} {{ fill: var(--m{n}); stroke: none; }} polyline.m{n}, .bar.m{n} {{ stroke: var(--m{n}); }}
.chart text.m{n} {{ fill: var(--m{n}); }}"""
    for n in range(4)
)
