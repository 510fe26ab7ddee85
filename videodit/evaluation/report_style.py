"""The report's style sheet: light and dark, from the reader's own setting."""

STYLE = """
:root{--page:#fbfbfa;--card:#fff;--ink:#1c1e21;--soft:#60656c;--rule:#e3e4e6;--c1:#2563c9;--c2:#d0581b;--c3:#1a8a5a;--c4:#8a4fc2}
@media(prefers-color-scheme:dark){
:root{--page:#14161a;--card:#1c1f24;--ink:#e7e9ec;--soft:#9aa1ab;--rule:#31353c;--c1:#6ea3ff;--c2:#ff9a62;--c3:#4fcf97;--c4:#c79bf5}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
header,main{max-width:1180px;margin:0 auto;padding:0 20px}
header{padding-top:28px}
h1{font-size:24px;margin:0}header p{margin:2px 0 18px;color:var(--soft)}
h2{font-size:17px;margin:0 0 12px}h3{font-size:14px;margin:16px 0 4px;color:var(--soft)}
section{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:18px 20px;margin-bottom:18px}
section:first-of-type{display:flex;flex-wrap:wrap;gap:14px 34px}
.tile b{display:block;font-size:22px;font-weight:600;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:13px}
.wide{overflow-x:auto}
table{border-collapse:collapse}
th,td{padding:5px 16px 5px 0;text-align:left;vertical-align:top;font-weight:400}
tr:first-child>th{color:var(--soft);font-size:13px}
table:not(.samples):not(.bars) tr+tr>*{border-top:1px solid var(--rule)}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.samples th:first-child{min-width:180px;max-width:240px}.samples small{display:block;color:var(--soft)}
.samples td{padding:4px 6px 4px 0}
.samples img,.samples video{display:block;height:96px;max-width:none;border-radius:4px;image-rendering:pixelated}
.shown{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,528px),1fr));gap:18px 24px}
.shown .pair{display:flex;flex-wrap:wrap;gap:6px;margin-bottom:4px}.shown img{display:block;image-rendering:pixelated}
.shown figcaption{color:var(--ink)}.shown small{display:block;color:var(--soft)}.shown .wrong{color:var(--c2)}.shown .right{color:var(--c3)}
.wide+ul{margin-top:12px;color:var(--soft);font-size:13px}
.whole{max-width:none;min-width:min(100%,640px);image-rendering:pixelated}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:18px}
table+.charts{margin-top:18px}
figure{margin:0}figcaption{font-size:13px;color:var(--soft);margin-bottom:4px}
.chart{width:100%;height:auto;display:block}
.grid{stroke:var(--rule);fill:none}.axis{stroke:var(--soft);fill:none}
.tick,.label{fill:var(--soft);font-size:12px}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.line.faint{stroke-width:1;opacity:.3}
.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}.line.c3{stroke:var(--c3)}.line.c4{stroke:var(--c4)}
.dot.c1{fill:var(--c1)}.dot.c2{fill:var(--c2)}.dot.c3{fill:var(--c3)}.dot.c4{fill:var(--c4)}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px}
.key{display:inline-block;width:14px;height:3px;margin-right:6px;vertical-align:middle;border-radius:2px}
.key.c1{background:var(--c1)}.key.c2{background:var(--c2)}.key.c3{background:var(--c3)}.key.c4{background:var(--c4)}
.bars{width:100%;max-width:720px}.bars tr>th{white-space:nowrap;color:var(--ink);font-size:15px}.bar{width:100%;vertical-align:middle}
.bar i{display:block;height:14px;min-width:2px;background:var(--c1);border-radius:3px}
ul{margin:0;padding-left:20px}summary{cursor:pointer}
pre{overflow-x:auto;font:12px/1.45 ui-monospace,"DejaVu Sans Mono",monospace}
"""
