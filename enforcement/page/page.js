"use strict";
// Draws each chart into its figure, as wide as the column, and again when the column changes.
(function () {
  // Without `ast` Vega would make functions out of text, which the page's content policy forbids.
  const options = { ast: true, actions: false, renderer: "svg", mode: "vega-lite", tooltip: { theme: "custom" } };
  const charts = Array.from(document.querySelectorAll("figure.chart"));

  // Panels below each other have the width of one plot; what axes and labels take is known once they are drawn.
  function setWidth(node, width) {
    if (typeof node.width === "number") node.width = width;
    if (node.facet && node.facet.row && node.facet.row.header) node.facet.row.header.labelLimit = width;
    if (node.spec) setWidth(node.spec, width);
    (node.vconcat || []).forEach(function (part) { setWidth(part, width); });
  }

  // What a chart has for narrow columns: fields to read instead of others.
  function narrowed(node, fields) {
    if (node.field && fields[node.field]) node.field = fields[node.field];
    ["spec", "encoding", "y"].forEach(function (part) { if (node[part]) narrowed(node[part], fields); });
    (node.layer || []).forEach(function (part) { narrowed(part, fields); });
  }

  async function draw(figure, spec) {
    const plot = figure.querySelector(".plot");
    const column = plot.clientWidth;
    if (!column || figure.drawnFor === column) return;
    figure.drawnFor = column;
    spec = structuredClone(spec);
    if (column < 560 && spec.usermeta && spec.usermeta.narrow) narrowed(spec, spec.usermeta.narrow);
    let width = Math.max(column - 70, 120);
    for (let attempt = 0; attempt < 2; attempt += 1) {
      if (figure.view) figure.view.finalize();
      setWidth(spec, width);
      const result = await window.vegaEmbed(plot, structuredClone(spec), options);
      figure.view = result.view;
      const drawn = plot.querySelector("svg").getBoundingClientRect().width;
      const left = column - Math.ceil(drawn);
      if (left >= 0 && left <= 4) break;
      width = Math.max(width + left - 1, 120);
    }
  }

  charts.forEach(function (figure) {
    const spec = JSON.parse(figure.querySelector("script").textContent);
    let waiting = 0;
    let last = Promise.resolve();
    function again() {
      window.clearTimeout(waiting);
      waiting = window.setTimeout(function () {
        last = last.then(function () { return draw(figure, spec); }).catch(function (problem) {
          figure.querySelector(".plot").textContent = "This chart could not be drawn: " + problem.message;
        });
      }, 60);
    }
    new ResizeObserver(again).observe(figure.querySelector(".plot"));
  });
})();
