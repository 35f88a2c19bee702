/// The looks of every page. Colours are variables, once for light and once for dark; paper is light. The series are told apart
/// by shapes and dashes too, and their hues are ones that the common kinds of colour blindness keep apart (Okabe and Ito).
/// No `<`, `>` or `&`: it stands as it is in HTML and in XML.
let styleSheet: StaticString = """

  :root {
    --page: #f6f7f8; --card: #ffffff; --ink: #14181d; --soft: #55606c; --faint: #8a939e; --rule: #dfe3e7; --grid: #e9ecef;
    --link: #0b5cad;
    --good: #0a6b52; --good-soft: #e2f3ee; --bad: #a6200d; --bad-soft: #fdebe7; --warn: #7a5200; --warn-soft: #fdf3dc;
    --s0: #0072b2; --s1: #c34e00; --s2: #00805d; --s3: #a1457d; --s4: #7d6100; --s5: #59636e;
    --h0: #f3f6fa; --h1: #dbe7f2; --h2: #bcd4e8; --h3: #96bddb; --h4: #6da2cb; --h5: #4887b8; --h6: #2c6ca1; --h7: #175185;
    --h8: #0b3866; --blank: #f3d9d3; --on-pale: #14181d; --on-strong: #ffffff;
  }
  @media screen and (prefers-color-scheme: dark) {
    :root {
      --page: #0f1216; --card: #171b21; --ink: #e8ebee; --soft: #a9b3be; --faint: #7c8793; --rule: #2c333b; --grid: #242a32;
      --link: #7cbcf5;
      --good: #5fd4b1; --good-soft: #12312a; --bad: #ff9682; --bad-soft: #3d1a14; --warn: #f0c368; --warn-soft: #35290f;
      --s0: #62b8ee; --s1: #ff9a57; --s2: #4fd6a8; --s3: #eb9fcb; --s4: #e2c84f; --s5: #b4bdc7;
      --h0: #1b2129; --h1: #1f3044; --h2: #23415f; --h3: #2a547c; --h4: #356b9b; --h5: #4a86b8; --h6: #6ba4d0; --h7: #98c5e6;
      --h8: #d2e8f8; --blank: #4a2a24; --on-pale: #e8ebee; --on-strong: #0f1216;
    }
  }
  * { box-sizing: border-box; }
  html { -webkit-text-size-adjust: 100%; }
  body {
    margin: 0; background: var(--page); color: var(--ink);
    font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
  }
  header, main, footer { max-width: 1000px; margin: 0 auto; padding: 0 24px; }
  header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; padding-top: 28px; padding-bottom: 16px; }
  .brand { font-weight: 700; letter-spacing: -0.01em; }
  .kind { color: var(--soft); }
  .subject { margin-left: auto; color: var(--soft); }
  code {
    font: 0.86em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
    overflow-wrap: anywhere; unicode-bidi: isolate;
  }
  h1 { margin: 0; font-size: 32px; line-height: 1.15; letter-spacing: -0.02em; }
  h2 { margin: 0 0 4px; font-size: 22px; line-height: 1.25; letter-spacing: -0.012em; }
  h3 { margin: 32px 0 12px; font-size: 16px; }
  p { margin: 0 0 12px; max-width: 72ch; }
  p, li, figcaption, th.number { overflow-wrap: anywhere; }
  .lead { color: var(--soft); margin-bottom: 20px; }
  .note { color: var(--soft); font-size: 14px; }
  .remark { color: var(--soft); font-weight: 400; }
  .good { color: var(--good); font-weight: 600; }
  .bad { color: var(--bad); font-weight: 700; }
  a { color: var(--link); text-underline-offset: 2px; }
  section { margin: 56px 0 0; }

  .verdict { display: flex; gap: 20px; align-items: flex-start; padding: 24px 28px; border-radius: 12px; border: 1px solid; }
  .verdict svg { flex: none; }
  .verdict p { margin: 8px 0 0; color: var(--ink); font-weight: 400; }
  .verdict.good { background: var(--good-soft); border-color: var(--good); }
  .verdict.bad { background: var(--bad-soft); border-color: var(--bad); }
  .verdict.neutral { background: var(--card); border-color: var(--rule); }
  .verdict h1 { color: var(--ink); }
  .verdict.good h1 { color: var(--good); }
  .verdict.bad h1 { color: var(--bad); }
  .disc { fill: var(--soft); }
  .good .disc { fill: var(--good); }
  .bad .disc { fill: var(--bad); }
  .sign { fill: none; stroke: var(--card); stroke-width: 5; stroke-linecap: round; stroke-linejoin: round; }

  .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 12px; margin: 12px 0 0; }
  .tiles div { padding: 16px 18px; background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
  .tiles dt { color: var(--soft); font-size: 13px; line-height: 1.35; font-weight: 400; }
  .tiles dd { margin: 6px 0 0; font-size: 26px; line-height: 1.15; font-weight: 600; letter-spacing: -0.02em; }
  .tiles dd.remark { margin-top: 4px; font-size: 13px; line-height: 1.35; font-weight: 400; letter-spacing: 0; }
  .warning {
    margin: 12px 0 0; padding: 12px 18px; max-width: none; border-radius: 10px; background: var(--warn-soft);
    overflow-wrap: anywhere;
  }
  .warning strong { color: var(--warn); margin-right: 4px; }
  nav ul { display: flex; flex-wrap: wrap; gap: 6px 20px; margin: 24px 0 0; padding: 0; list-style: none; font-size: 14px; }

  dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 6px 24px; margin: 16px 0; }
  dl dt { color: var(--soft); }
  dl dd { margin: 0; grid-column: 2; overflow-wrap: anywhere; }

  .table { margin: 16px 0; }
  .table .note { margin: 8px 0 0; }
  .scroll {
    overflow: auto; background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  }
  .scroll.tall { max-height: 640px; }
  table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 14px; line-height: 1.4; }
  caption { text-align: left; }
  .hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
  th, td { padding: 9px 14px; text-align: left; vertical-align: top; border-top: 1px solid var(--grid); }
  th { font-weight: 500; }
  th, td { white-space: nowrap; }
  .number div { white-space: normal; }
  .prose { white-space: normal; min-width: 17em; }
  .words { white-space: normal; min-width: 8em; }
  td code, th code { overflow-wrap: normal; }
  thead th {
    position: sticky; top: 0; background: var(--card); color: var(--soft); font-size: 13px; white-space: normal;
    border-top: 0; border-bottom: 1px solid var(--rule); vertical-align: bottom;
  }
  tr.group th { border-top-color: var(--faint); color: var(--ink); font-weight: 700; }
  tbody tr:first-child th, tbody tr:first-child td { border-top: 0; }
  .number { text-align: right; font-variant-numeric: tabular-nums; }
  td .good, td .bad { white-space: nowrap; }

  .cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: 16px; margin: 16px 0; }
  .card { padding: 18px 24px; background: var(--card); border: 1px solid var(--rule); border-radius: 10px; min-width: 0; }
  .card h3 { margin: 0 0 12px; }
  .card dl { margin: 0; font-size: 14px; }
  .card .note { margin: 10px 0 0; }
  .cards.alone { grid-template-columns: minmax(0, 1fr); }
  figure {
    margin: 16px 0; padding: 20px 24px 18px; background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
    min-width: 0;
  }
  figcaption { margin-bottom: 12px; font-size: 14px; line-height: 1.45; }
  figcaption strong { display: block; font-size: 16px; }
  figcaption span { color: var(--soft); }
  .pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; margin: 16px 0; }
  .pair figure { margin: 0; }
  .legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 14px; padding: 0; list-style: none; font-size: 13px; }
  .legend li { display: flex; align-items: center; gap: 7px; }
  .legend svg { flex: none; }
  figure svg.wide, figure svg.narrow { display: block; width: 100%; height: auto; overflow: hidden; }
  figure svg.narrow { display: none; max-width: 480px; }

  svg text { font-size: 12px; fill: var(--ink); font-variant-numeric: tabular-nums; }
  svg text.tick { fill: var(--soft); }
  svg text.axis-title { fill: var(--soft); }
  svg text.row-label { fill: var(--ink); font-size: 13px; }
  svg text.row-value { fill: var(--soft); }
  svg text.limit-label { fill: var(--bad); paint-order: stroke; stroke: var(--card); stroke-width: 4; }
  .grid { stroke: var(--grid); }
  .axis { stroke: var(--faint); }
  .lane { stroke: var(--faint); stroke-dasharray: 1 3; }
  .limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 4; }
  .border { stroke: var(--bad); stroke-width: 2; }
  .forbidden { fill: var(--bad-soft); }
  .bar { fill: var(--good); opacity: 0.28; }
  .bar.bad { fill: var(--bad); }
  .dot.good { fill: var(--good); }
  .dot.bad { fill: var(--bad); }
  .hover { fill: var(--card); opacity: 0; }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
  .point { stroke: var(--card); stroke-width: 1; }
  .hollow { fill: var(--card); stroke-width: 1.5; }
  .spread { opacity: 0.3; }
  .area { stroke: none; opacity: 0.16; }
  .line.s0, .hollow.s0 { stroke: var(--s0); }
  .line.s1, .hollow.s1 { stroke: var(--s1); }
  .line.s2, .hollow.s2 { stroke: var(--s2); }
  .line.s3, .hollow.s3 { stroke: var(--s3); }
  .line.s4, .hollow.s4 { stroke: var(--s4); }
  .line.s5, .hollow.s5 { stroke: var(--s5); }
  .line.s1 { stroke-dasharray: 7 3; }
  .line.s2 { stroke-dasharray: 2 3; }
  .line.s3 { stroke-dasharray: 10 3 2 3; }
  .line.s4 { stroke-dasharray: 4 2; }
  .line.s5 { stroke-dasharray: 12 4; }
  .point.s0, .area.s0, .spread.s0 { fill: var(--s0); }
  .point.s1, .area.s1, .spread.s1 { fill: var(--s1); }
  .point.s2, .area.s2, .spread.s2 { fill: var(--s2); }
  .point.s3, .area.s3, .spread.s3 { fill: var(--s3); }
  .point.s4, .area.s4, .spread.s4 { fill: var(--s4); }
  .point.s5, .area.s5, .spread.s5 { fill: var(--s5); }
  .h0 { fill: var(--h0); } .h1 { fill: var(--h1); } .h2 { fill: var(--h2); } .h3 { fill: var(--h3); } .h4 { fill: var(--h4); }
  .h5 { fill: var(--h5); } .h6 { fill: var(--h6); } .h7 { fill: var(--h7); } .h8 { fill: var(--h8); }
  .cell.blank { fill: var(--blank); }
  svg text.on-h0, svg text.on-h1, svg text.on-h2, svg text.on-h3, svg text.on-h4 { fill: var(--on-pale); font-size: 11px; }
  svg text.on-h5, svg text.on-h6, svg text.on-h7, svg text.on-h8 { fill: var(--on-strong); font-size: 11px; }

  details { margin: 16px 0; }
  summary { cursor: pointer; color: var(--link); padding: 4px 0; }
  pre {
    margin: 8px 0; padding: 14px 18px; max-height: 480px; overflow: auto; background: var(--card);
    border: 1px solid var(--rule); border-radius: 10px;
  }

  footer { margin-top: 64px; padding-bottom: 40px; color: var(--soft); font-size: 14px; }
  footer p { border-top: 1px solid var(--rule); padding-top: 16px; max-width: none; }

  @media screen and (max-width: 720px) {
    header, main, footer { padding-left: 16px; padding-right: 16px; }
    header { padding-top: 18px; }
    .subject { margin-left: 0; width: 100%; }
    h1 { font-size: 25px; }
    h2 { font-size: 20px; }
    section { margin-top: 44px; }
    .verdict { padding: 18px; gap: 14px; flex-direction: column; }
    .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
    .tiles div { padding: 12px 14px; }
    .tiles dd { font-size: 21px; }
    dl { grid-template-columns: minmax(0, 1fr); gap: 2px; }
    dl dd { grid-column: 1; }
    dl dd + dt { margin-top: 10px; }
    figure { padding: 16px 14px 12px; }
    .pair { grid-template-columns: minmax(0, 1fr); }
    figure svg.wide { display: none; }
    figure svg.narrow { display: block; }
    table { font-size: 13px; }
    th, td { padding: 7px 6px; }
    tr :first-child { padding-left: 10px; }
    .prose { min-width: 7em; }
    tbody th { white-space: normal; min-width: 7em; }
    tbody th:first-child { position: sticky; left: 0; background: var(--card); }
    .card { padding: 14px 16px; }
  }
  @media print {
    body { background: var(--card); font-size: 11pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
    header, main, footer { max-width: none; padding-left: 0; padding-right: 0; }
    nav { display: none; }
    section { margin-top: 28px; }
    figure, .verdict, .tiles, tr { break-inside: avoid; }
    h2, h3, .lead, caption, tr.group { break-after: avoid; }
    .scroll, .scroll.tall { max-height: none; overflow: visible; }
    .prose, .words, tbody th { min-width: 0; }
    table { font-size: 8.5pt; }
    th, td { padding: 4px 5px; white-space: normal; overflow-wrap: anywhere; }
    thead th { position: static; }
    details { display: none; }
  }

  """
