"use strict";
// Lists the runs that were asked for, and sets two of them side by side. Without scripts the list is there whole.
(function () {
  const told = JSON.parse(document.getElementById("told").textContent);
  const rows = Array.from(document.querySelectorAll("#runs tbody tr"));
  const filters = Array.from(document.querySelectorAll("[data-filter]"));
  const picks = Array.from(document.querySelectorAll("[data-pick]"));
  const beside = document.getElementById("beside");
  let chosen = [];

  function element(tag, text, attributes) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    Object.entries(attributes || {}).forEach(function (pair) { made.setAttribute(pair[0], pair[1]); });
    return made;
  }

  function filter() {
    const asked = {};
    filters.forEach(function (box) { asked[box.dataset.filter] = box.value; });
    let shown = 0;
    rows.forEach(function (row) {
      const data = row.dataset;
      const fits = (!asked.name || data.name === asked.name) && (!asked.state || data.state === asked.state) &&
        (!asked.policy || JSON.parse(data.policies).includes(asked.policy)) &&
        (!asked.from || data.day >= asked.from) && (!asked.until || data.day <= asked.until);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    document.getElementById("shown").textContent = shown.toLocaleString("en");
  }

  function facts(runs) {
    const table = element("table");
    const head = element("tr");
    head.append(element("th", "what", { scope: "col" }));
    runs.forEach(function (run) {
      const cell = element("th", undefined, { scope: "col" });
      cell.append(element("a", run.title, { href: run.where }));
      head.append(cell);
    });
    const top = element("thead");
    top.append(head);
    table.append(top);
    Object.keys(runs[0].groups).forEach(function (group) {
      const parts = runs.map(function (run) { return run.groups[group]; });
      const names = Array.from(new Set(parts.flatMap(function (part) { return Object.keys(part); })));
      if (!names.length) return;
      const body = element("tbody");
      const heading = element("tr");
      heading.append(element("th", group, { colspan: "3", scope: "rowgroup" }));
      body.append(heading);
      names.forEach(function (name) {
        const values = parts.map(function (part) { return Object.hasOwn(part, name) ? part[name] : ""; });
        const differs = values[0] !== values[1];
        const row = element("tr", undefined, differs ? { class: "differs" } : {});
        row.append(element("th", name + (differs ? " (differs)" : ""), { scope: "row" }));
        values.forEach(function (value) { row.append(element("td", value)); });
        body.append(row);
      });
      table.append(body);
    });
    const scroll = element("div", undefined, { class: "scroll", tabindex: "0", role: "region", "aria-label": "Facts of both runs" });
    scroll.append(table);
    return scroll;
  }

  function compare() {
    const runs = chosen.map(function (number) { return told[number]; });
    beside.hidden = runs.length !== 2;
    if (beside.hidden) return;
    document.getElementById("facts").replaceChildren(facts(runs));
    document.getElementById("pages").replaceChildren(...runs.map(function (run) {
      // No script runs in there: charts are still pictures.
      return element("iframe", undefined, { src: run.where, title: run.title, sandbox: "", loading: "lazy" });
    }));
    beside.scrollIntoView({ block: "start" });
    document.getElementById("beside-heading").focus({ preventScroll: true });
  }

  picks.forEach(function (box) {
    box.checked = false;
    box.addEventListener("change", function () {
      const number = Number(box.dataset.pick);
      chosen = chosen.filter(function (other) { return other !== number; });
      if (box.checked) chosen.push(number);
      if (chosen.length > 2) picks[chosen.shift()].checked = false; // the third takes the place of the first
      compare();
    });
  });
  filters.forEach(function (box) {
    box.addEventListener("input", filter);
  });
  filter();
})();
