"""The style sheet of the page: light and dark, phone and paper. Must not know what the page says."""

from __future__ import annotations

from controller.report.palette import DARK, LIGHT, properties

_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--text);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
 font-variant-numeric:tabular-nums}
main,header,footer{max-width:64rem;margin:0 auto;padding:0 1rem}
header{padding-top:2rem}
h1{font-size:1.5rem;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:1.125rem;margin:2.5rem 0 .75rem;padding-top:1.25rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.5rem 0 .5rem}
p{margin:.5rem 0;max-width:44rem;overflow-wrap:anywhere}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.8125rem}
code{overflow-wrap:anywhere}
.eyebrow,.note{color:var(--muted)}
.eyebrow{margin:0 0 .25rem;font-size:.875rem}
.note{font-size:.875rem}
.verdict{display:grid;grid-template-columns:auto 1fr;gap:0 1rem;margin:1.25rem 0;padding:1rem 1.25rem;
 border-left:.375rem solid;border-radius:.25rem}
.verdict .mark{font-size:1.5rem;line-height:1.75rem;font-weight:700}
.verdict .word{font-size:1.25rem;line-height:1.75rem;font-weight:700;margin:0}
.verdict .why{grid-column:2;color:var(--text)}
.verdict ul{margin:.25rem 0 0;padding-left:1.1rem}
.verdict li{overflow-wrap:anywhere}
.verdict .by{grid-column:2;color:var(--text);font-size:.875rem;margin:.5rem 0 0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,13rem),1fr));gap:1px;margin:1.25rem 0;
 background:var(--line);border:1px solid var(--line);border-radius:.25rem;overflow:hidden}
.figure{background:var(--page);padding:.875rem 1rem}
.figure dt{font-size:.875rem;color:var(--muted)}
.figure dd{margin:0}
.figure .value{font-size:1.5rem;line-height:1.35;font-weight:600;white-space:nowrap}
.figure .note{line-height:1.4}
.scroll{overflow-x:auto;margin:.75rem 0;
 background:linear-gradient(to left,var(--page) 1.5rem,transparent) right/3rem 100% no-repeat local,
 linear-gradient(to left,var(--line),transparent) right/1rem 100% no-repeat}
table{border-collapse:collapse;width:100%;font-size:.875rem}
caption{text-align:left;color:var(--muted);padding:0 0 .375rem}
th,td{padding:.4375rem .75rem;text-align:right;border-bottom:1px solid var(--line);vertical-align:top;
 white-space:nowrap}
th{font-weight:600;color:var(--muted)}
thead th{vertical-align:bottom}
tbody th{color:var(--text);font-weight:500}
th:first-child,td:first-child{text-align:left;padding-left:0;min-width:7rem;max-width:18rem;white-space:normal;
 overflow-wrap:anywhere}
th:last-child,td:last-child{padding-right:0}
td .note{display:block;font-size:.75rem;line-height:1.3}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:1.5rem 2rem;
 margin:1rem 0}
figure{margin:0;min-width:0;max-width:26rem}
figcaption{font-size:.875rem;font-weight:600;margin-bottom:.375rem}
svg{display:block;width:100%;height:auto;overflow:hidden}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:var(--muted)}
svg .name{fill:var(--text)}
svg .axis{stroke:var(--line)}
svg .adapter{stroke:var(--adapter);fill:none}
svg .artifact{stroke:var(--artifact);fill:none}
svg .adapter.solid,svg text.adapter{fill:var(--adapter)}
svg .artifact.solid,svg text.artifact{fill:var(--artifact)}
svg text.adapter,svg text.artifact{stroke:none;font-weight:600}
svg .other{fill:var(--muted)}
details{border:1px solid var(--line);border-radius:.25rem;margin:.5rem 0}
summary{padding:.5rem .75rem;cursor:pointer;overflow-wrap:anywhere}
summary:focus-visible{outline:2px solid var(--adapter);outline-offset:2px}
details[open]>summary{border-bottom:1px solid var(--line)}
.example{padding:.75rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,18rem),1fr));gap:.75rem}
.said{margin:.5rem 0 0;min-width:0}
.said .who{font-size:.8125rem;font-weight:600;margin:0 0 .25rem}
.said .who.adapter{color:var(--adapter)}
.said .who.artifact{color:var(--artifact)}
.words{margin:0;padding:.5rem .75rem;background:var(--surface);border-radius:.25rem;white-space:pre-wrap;
 overflow-wrap:anywhere;max-height:24rem;overflow:auto;font-size:.875rem;unicode-bidi:plaintext}
.words:focus-visible{outline:2px solid var(--adapter)}
.wrong{font-weight:400;color:var(--muted)}
bdi{unicode-bidi:isolate}
del{color:var(--removed);background:var(--removed-on);text-decoration:line-through}
ins{color:var(--added);background:var(--added-on);text-decoration:underline}
.hidden{color:var(--hidden);background:var(--hidden-on);border-radius:.1875rem;padding:0 .1875rem;
 font-size:.75em;overflow-wrap:anywhere}
.origin{display:grid;grid-template-columns:fit-content(14rem) minmax(0,1fr);gap:.375rem 1.5rem;margin:0;
 font-size:.875rem}
.origin dt{color:var(--muted);min-width:0;overflow-wrap:anywhere}
.origin dd{margin:0;min-width:0;overflow-wrap:anywhere}
ul.plain{padding-left:1.1rem;max-width:44rem}
ul.plain li{margin:.25rem 0;overflow-wrap:anywhere}
footer{margin-top:2.5rem;padding-bottom:2.5rem;color:var(--muted);font-size:.8125rem}
footer div{border-top:1px solid var(--line);padding-top:1rem}
@media (max-width:36rem){table{font-size:.8125rem}th,td{padding-left:.25rem;padding-right:.25rem}
 th:first-child,td:first-child{min-width:4.5rem}th .note{font-size:.75rem}
 .origin{grid-template-columns:minmax(0,1fr);gap:0}.origin dd{margin-bottom:.5rem}.verdict{padding:.75rem 1rem}}
"""
_PRINT = """
@media print{@page{margin:15mm}body{font-size:10.5pt}h2,h3,summary,figcaption{break-after:avoid}
 figure,tr,.said,.verdict,.figures{break-inside:avoid}
 .words{max-height:none;overflow:visible;border:1px solid var(--line)}
 .scroll{overflow:visible}details::details-content{content-visibility:visible;height:auto}
 .verdict,.words,del,ins,.hidden{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
_TONES = "".join(
    f".{word}{{color:var(--{word});background:var(--{word}-on)}}" for word in ("pass", "fail", "inconclusive", "none")
)
SHEET = (
    f":root{{color-scheme:light dark;{properties(LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{properties(DARK)}}}}}"
    f"{_RULES}{_TONES}{_PRINT}"
    f"@media print{{:root{{color-scheme:light;{properties(LIGHT)}}}}}"
)
