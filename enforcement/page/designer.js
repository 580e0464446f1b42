// The designer's picture in JupyterLab: it draws what the kernel has judged, and tells the kernel what is wished.
// Plain SVG, no library, no request to any host. Colours are those of every page (Okabe-Ito).

const COLOURS = { delayed: "#E69F00", lost: "#D55E00", risk_left: "#0072B2", accepted: "#ECEEF1", baseline: "#555555" };
const LABELS = { delayed: "Delayed", lost: "Lost", risk_left: "Risk left" };
const SAYS = {
  delayed: "delivered late",
  lost: "refused or expired",
  risk_left: "delivered from vulnerable servers",
};
const SINCE = ["unsupported_since", "missing_since", "exploited_since", "below_minimum_since"];
const WINDOWS = ["top of the hour", "spread"];
const STATES = { pass: "✓ pass", fail: "✗ fail", inconclusive: "? inconclusive", "computed on save": "… computed on save" };
const ACTIONS = new Set(["ask", "error", "saved", "exported", "replayed", "remarks", "noted", "page", "re", "from", "ms"]);
const SVG = "http://www.w3.org/2000/svg";
const STRIP = { left: 34, right: 8, top: 56, height: 132, bottom: 34 };
const PHASE_ROWS = 4; // as many names as stages of a few pixels have side by side, in the order of phases
const TAIL = 0.16; // how much of the strip shows the last stage, which has no end
const TOGETHER_MS = 900; // keys pressed in so short a time are undone together
const WAITS_MS = 3000;

const number = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const percent = (share, digits = 1) => (share == null ? "–" : `${(100 * share).toFixed(digits)} %`);
const megabytes = (bytes) => (bytes == null ? "unknown" : `${number.format(bytes / 1e6)} MB`);
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const plural = (n, word) => `${number.format(n)} ${word}${n === 1 ? "" : "s"}`;

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in node && !key.includes("-") && key !== "list") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

function draw(tag, attributes = {}, text) {
  const node = document.createElementNS(SVG, tag);
  put(node, attributes);
  if (text != null) node.textContent = text;
  return node;
}

function put(node, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value == null) node.removeAttribute(key);
    else if (node.getAttribute(key) !== String(value)) node.setAttribute(key, value);
  }
}

// Write into a field what the kernel says, unless somebody is typing there.
function fill(field, value) {
  const text = value == null ? "" : String(value);
  if (field.value !== text && field !== field.getRootNode().activeElement) field.value = text;
}

function nice(most) {
  if (!(most > 0)) return 0.01;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 5, 7.5, 10].map((step) => step * power).find((step) => step >= most * 0.999);
}

class Designer {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.view = {};
    this.me = Math.random().toString(36).slice(2);
    this.queue = [];
    this.inFlight = null;
    this.seq = 0;
    this.latencies = [];
    this.local = null; // stages as they are dragged, ahead of the kernel
    this.gestures = 0;
    this.hovered = null;
    root.latencies = this.latencies;
    root.designer = this;
    this.build();
    this.heard = (message) => this.hear(message);
    model.on("msg:custom", this.heard);
    this.watchKernel();
    this.resized = new ResizeObserver(() => this.show());
    this.resized.observe(root);
    this.wish({ do: "open" });
  }

  end() {
    this.model.off("msg:custom", this.heard);
    this.resized.disconnect();
    clearInterval(this.waiting);
    this.kernel?.statusChanged?.disconnect(this.kernelSays, this);
  }

  // To the kernel and back

  wish(wish, at = null) {
    const last = this.queue.at(-1);
    const entry = { wish: { ...wish, from: this.me }, at };
    if (last && wish.do === "edit" && wish.gesture && last.wish.gesture === wish.gesture) this.queue.pop();
    this.queue.push(entry);
    this.next();
  }

  next() {
    if (this.inFlight || !this.queue.length) return;
    const entry = this.queue.shift();
    this.seq += 1;
    this.inFlight = { ...entry, seq: this.seq, since: performance.now() };
    this.root.setAttribute("aria-busy", "true");
    this.model.send({ ...entry.wish, seq: this.seq });
  }

  hear(message) {
    const { ...told } = message;
    const mine = told.from === this.me && this.inFlight && told.re === this.inFlight.seq;
    const entry = mine ? this.inFlight : null;
    if (mine) {
      this.inFlight = null;
      if (!this.queue.length) this.root.setAttribute("aria-busy", "false");
    }
    if ("problems" in told) {
      this.isOld = !("picture" in told);
      if (!("ahead" in told) && !this.isOld) delete this.view.ahead;
      for (const [key, value] of Object.entries(told)) if (!ACTIONS.has(key)) this.view[key] = value;
      if (!this.dragging && !this.queue.length) this.local = null;
      this.ms = told.ms;
    }
    if (mine) this.tell(told, entry);
    this.next();
    this.show();
    if (!this.wasSeen && told.picture) {
      this.wasSeen = true; // JupyterLab goes to the last cell when it runs all
      this.root.scrollIntoView({ block: "start" });
    }
    if (entry?.at != null && told.picture) this.measured(entry.at, told.ms);
  }

  // What came of a wish beside the picture.
  tell(told, entry) {
    if (told.error) this.say(told.error, "error");
    else if (told.ask) this.ask(told.ask);
    else if (told.saved) {
      this.saved = told;
      this.say(`Saved to ${told.saved}. Computing who is hit…`);
      this.wish({ do: "replay" });
    } else if (told.replayed) {
      this.replayed = told.replayed;
      const { saved, page } = this.saved ?? {};
      this.say(
        `${saved ? `Saved to ${saved}. ` : ""}Replayed ${told.replayed.from} to ${told.replayed.to}: who is hit stands below ` +
          `the guardrails.${page ? ` Its page: ${page}` : ""}`, // nothing behind the command, which is copied
      );
      this.saved = null;
    } else if (told.exported) {
      const done = told.exported;
      this.say(
        `Exported ${plural(done.servers, "server")}, valid ${done.valid_from} to ${done.not_after}, ` +
          `serial ${done.serial}, to ${done.folder}.`,
      );
    } else if (told.remarks) this.remarks = told.remarks;
    if (["load", "open"].includes(entry.wish.do) && !told.ask && !told.error) {
      this.replayed = null;
      this.say("");
    }
    if (["edit", "stage", "undo", "redo"].includes(entry.wish.do)) {
      this.replayed = null;
      if (!told.error && this.message.dataset.kind !== "ask") this.say(told.noted ?? "");
    }
    if (!["remarks", "focus", "replay", "export"].includes(entry.wish.do)) {
      clearTimeout(this.remarking);
      this.remarking = setTimeout(() => this.wish({ do: "remarks" }), 600);
    }
  }

  // From the event that caused an edit until its picture is on the screen.
  measured(at, kernelMs) {
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => {
        this.latencies.push(performance.now() - at);
        this.kernelMs = kernelMs;
        this.showFoot();
      };
      channel.port2.postMessage(0);
    });
  }

  watchKernel() {
    this.waiting = setInterval(() => this.showFoot(), 1000);
    try {
      this.kernel = this.model.widget_manager?.kernel ?? null;
      this.kernel?.statusChanged?.connect(this.kernelSays, this);
    } catch {
      this.kernel = null; // another front end than JupyterLab: waiting is told all the same
    }
  }

  kernelSays(_, status) {
    if (["dead", "restarting", "autorestarting", "terminating"].includes(status)) this.lost(status);
  }

  lost(status) {
    if (this.isLost) return;
    this.isLost = true;
    const { has, peak, free } = this.view.memory ?? {};
    this.say(
      `The kernel is ${status === "dead" ? "dead" : "gone"}. At its last answer it had ${megabytes(has)} of memory ` +
        `(${megabytes(peak)} at most), and ${megabytes(free)} were free on the machine: if that was little, the system ` +
        `ended it. What is not saved is lost; run the cells of the notebook again.`,
      "error",
    );
    for (const field of this.root.querySelectorAll("button, input, select, textarea")) field.disabled = true;
  }

  say(text, kind = "") {
    this.message.replaceChildren(text);
    this.message.dataset.kind = kind;
    this.message.hidden = !text;
  }

  ask({ what, message, over, policy }) {
    const answer = (wish) => () => {
      this.say("");
      if (wish) this.wish(wish);
    };
    const choices =
      what === "save"
        ? [
            ["Write over it", { do: "save", path: this.fields.path.value, over }],
            ["Load the file instead", { do: "load", policy, anyway: true }],
          ]
        : what === "make"
          ? [["Make it anew", { do: "save", path: this.fields.path.value, over }]]
          : [["Load and lose them", { do: "load", policy, anyway: true }]];
    const buttons = [...choices, ["Cancel", null]].map(([text, wish]) =>
      make("button", { type: "button", textContent: text, onclick: answer(wish) }),
    );
    this.message.replaceChildren(`${message} `, ...buttons);
    this.message.dataset.kind = "ask";
    this.message.hidden = false;
    buttons.at(-1).focus();
  }

  // Edits

  edit(place, value, gesture, at) {
    this.wish({ do: "edit", edits: [{ kind: "set", place, value }], gesture }, at);
  }

  act(kind, place, value) {
    this.wish({ do: "edit", edits: [{ kind, place, value }] }, performance.now());
  }

  stages() {
    return this.local ?? this.view.policy?.stages ?? [];
  }

  setStage(index, key, value, gesture, at) {
    const stages = this.stages().map((stage) => ({ ...stage }));
    if (!stages[index]) return;
    stages[index][key] = value;
    this.local = stages;
    this.edit(["stages", index, key], key !== "days" && value === 0 ? null : value, gesture, at);
    this.showStrip();
  }

  keyGesture(key) {
    const now = performance.now();
    if (this.lastKey?.key !== key || now - this.lastKey.at > TOGETHER_MS) this.gestures += 1;
    this.lastKey = { key, at: now };
    return `key ${this.me} ${this.gestures}`;
  }

  // A field whose every letter is an edit; what is typed while it has the focus is undone together.
  field(tag, properties, place, read = (text) => text) {
    const node = make(tag, properties);
    let gesture = "";
    node.addEventListener("focus", () => {
      this.gestures += 1;
      gesture = `field ${this.me} ${this.gestures}`;
    });
    node.addEventListener("input", (event) => this.edit(place(), read(node.value), gesture, event.timeStamp));
    return node;
  }

  // What stands where

  build() {
    this.fields = {};
    const button = (text, wish, title) =>
      make("button", { type: "button", textContent: text, title: title ?? "", onclick: (event) => wish(event) });
    const { root } = this;
    root.classList.add("enf-designer");
    root.setAttribute("data-lm-suppress-shortcuts", "true"); // the notebook's own keys rest while one works here
    for (const kind of ["keydown", "keyup"]) root.addEventListener(kind, (event) => event.stopPropagation());
    root.addEventListener("keydown", (event) => this.undoKey(event));

    const names = `policies-${this.me}`;
    this.fields.load = make("input", { list: names, placeholder: "a shipped name or a path", size: 22 });
    this.names = make("datalist", { id: names });
    this.fields.name = this.field("input", { size: 22, className: "name" }, () => ["name"]);
    this.fields.baseline = make("select", {
      onchange: () => {
        this.act("set", ["baseline"], this.fields.baseline.value);
        this.wish({ do: "count" });
      },
    });
    const load = () => this.wish({ do: "load", policy: this.fields.load.value });
    this.fields.load.addEventListener("keydown", (event) => event.key === "Enter" && load());
    this.message = make("div", { className: "message", role: "alert", hidden: true });
    const top = make(
      "div",
      { className: "top" },
      make("label", {}, "Policy ", this.fields.name),
      make("label", {}, "Baseline ", this.fields.baseline),
      make("span", { className: "load" }, make("label", {}, "Load ", this.fields.load), this.names, " ", button("Load", load)),
    );

    this.strip = draw("svg", { class: "strip", role: "group", "aria-label": "Stages of the schedule" });
    this.strip.addEventListener("keydown", (event) => this.stripKey(event));
    this.problems = make("ul", { className: "problems" });
    this.problems.setAttribute("aria-live", "polite");
    this.stageTable = make("table", { className: "stages" });
    this.rules = make("div", { className: "parts" });
    this.moved = make("p", { className: "moved" });
    this.caught = make("div", { className: "caught" });
    this.cohorts = make("div", { className: "parts" });
    this.fields.window = make("select", { onchange: () => this.act("set", ["window"], this.fields.window.value) });
    for (const each of WINDOWS) this.fields.window.append(make("option", { value: each, textContent: each }));
    this.fileHint = make("p", { className: "hint" });
    this.beside = make("table", { className: "beside long" });
    const days = (place) => this.field("input", { type: "number", min: 0, max: 3660 }, () => place, (text) => text || null);
    this.fields.pause = days(["pause", "days_per_year"]);
    this.fields.clear = days(["clear_after_days"]);
    const left = make(
      "div",
      { className: "left" },
      make("p", { className: "hint", textContent:
        "Drag an edge to change days, a grip to change minutes; or focus one and use the arrows, + and −, " +
        "Insert (a stage after) and Delete." }),
      this.strip,
      this.problems,
      make("details", {}, make("summary", { textContent: "The stages as numbers" }), this.stageTable),
      make("h4", { textContent: "Rules: a build is vulnerable from the earliest day that one gives" }),
      this.rules,
      button("Add a rule", () => this.addRule()),
      this.moved,
      this.caught,
      make("h4", { textContent: "Cohorts: the first that matches takes a server in" }),
      this.cohorts,
      button("Add a cohort", () => this.addCohort()),
      make(
        "div",
        { className: "around" },
        make("label", {}, "Window ", this.fields.window),
        make("label", {}, "Pause days per tenant and year ", this.fields.pause),
        make("label", {}, "A spell ends after ", this.fields.clear, " days without"),
      ),
      make("h4", { textContent: "Also in the file" }),
      this.fileHint,
      this.beside,
    );

    this.fields.ahead = make("input", {
      type: "checkbox",
      onchange: () => this.wish({ do: "expected", on: this.fields.ahead.checked }, performance.now()),
    });
    this.stale = make("div", { className: "stale", role: "status" });
    this.stale.append(
      make("span", { textContent:
        "Rules, cohorts, window or pauses have changed: their effect on the mail is computed on save. The pictures show " +
        "the stages on what was counted before. " }),
      button("Count now", () => this.wish({ do: "count" }), "Reads the history once"),
    );
    this.figures = make("div", { className: "figures" });
    this.basis = make("p", { className: "basis" });
    this.charts = {};
    const charts = Object.keys(LABELS).map((name, index) => {
      this.charts[name] = new Lines(this, name, index === 2);
      return this.charts[name].node;
    });
    this.readout = make("p", { className: "readout" });
    this.deciles = draw("svg", { class: "deciles", role: "img" });
    this.decilesTitle = make("h4", { textContent: "Who bears it? Shares of the mail of each tenth of the tenants, smallest senders first" });
    this.guardrails = make("div", { className: "guardrails" });
    this.hit = make("div", { className: "hit" });
    this.differs = make("div", { className: "differs" });
    this.remarked = make("ul", { className: "remarks" });
    const right = make(
      "div",
      { className: "right" },
      make("label", { className: "switch" }, this.fields.ahead, " show what is expected of the days to come (people react)"),
      this.stale,
      this.figures,
      this.basis,
      ...charts,
      this.readout,
      this.decilesTitle,
      this.deciles,
      make("h4", { textContent: "Guardrails" }),
      this.guardrails,
      this.hit,
      make("h4", { textContent: "What differs from the saved policy" }),
      this.differs,
      this.remarked,
    );

    this.fields.path = make("input", { size: 30, "aria-label": "file to save to" });
    this.fields.path.addEventListener("input", () => (this.pathTyped = true));
    this.buttons = {
      undo: button("Undo", (event) => this.wish({ do: "undo" }, event.timeStamp)),
      redo: button("Redo", (event) => this.wish({ do: "redo" }, event.timeStamp)),
      save: button("Save", () => this.wish({ do: "save", path: this.fields.path.value })),
      replay: button("Replay", () => this.wish({ do: "replay" }), "Who is hit, guardrails per tenant: the saved file"),
      export: button("Export", () => this.wish({ do: "export" }), "Files for mail servers: the saved file"),
    };
    this.timing = make("p", { className: "timing" });
    this.exact = make("p", { className: "exact" });
    const foot = make(
      "div",
      { className: "foot" },
      make("div", { className: "buttons" }, this.buttons.undo, this.buttons.redo, make("label", {}, "File ", this.fields.path),
        this.buttons.save, this.buttons.replay, this.buttons.export),
      this.timing,
      this.exact,
    );
    root.append(top, this.message, make("div", { className: "columns" }, left, right), foot);
  }

  // Drawing

  show() {
    const { view } = this;
    if (!view.policy) {
      this.timing.textContent = this.isLost ? "" : "Counting the history…";
      return;
    }
    const { policy } = view;
    fill(this.fields.name, policy.name);
    fill(this.fields.window, policy.window ?? WINDOWS[0]);
    fill(this.fields.pause, policy.pause?.days_per_year);
    fill(this.fields.clear, policy.clear_after_days ?? 14);
    this.showBaselines();
    if (!this.pathTyped || this.shownPath !== view.path) {
      if (this.shownPath !== view.path) this.pathTyped = false;
      fill(this.fields.path, view.target);
      this.shownPath = view.path;
    }
    this.fields.ahead.checked = Boolean(view.ahead);
    this.showStrip();
    this.showProblems();
    this.showStageTable();
    this.showRules();
    this.showCohorts();
    this.showBeside();
    this.showPictures();
    this.showGuardrails();
    this.showDiffers();
    this.showFoot();
  }

  showBaselines() {
    const names = [...new Set(["none", ...(this.view.policies ?? []), this.view.policy.baseline ?? "none"])];
    if (!same(names, this.shownNames)) {
      this.fields.baseline.replaceChildren(...names.map((name) => make("option", { value: name, textContent: name })));
      this.names.replaceChildren(...(this.view.policies ?? []).map((name) => make("option", { value: name })));
      this.shownNames = names;
    }
    fill(this.fields.baseline, this.view.policy.baseline ?? "none");
  }

  problemsAt(...place) {
    return (this.view.problems ?? []).filter((problem) => same(problem.place.slice(0, place.length), place));
  }

  // A mark at a field of something that is wrong there, and the words below it.
  markField(field, told, ...place) {
    const found = this.problemsAt(...place);
    if (found.length) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
    if (told) {
      const text = found.map((problem) => problem.line).join("\n");
      if (told.textContent !== text) told.textContent = text;
    }
  }

  scale() {
    const stages = this.stages();
    const width = Math.max(320, this.strip.parentNode.clientWidth || 480);
    const whole = stages.slice(0, -1).reduce((sum, stage) => sum + (Number(stage.days) || 0), 0);
    const days = this.dragging?.days ?? Math.max(10, whole / (1 - TAIL));
    const plot = width - STRIP.left - STRIP.right;
    return { width, days, x: (day) => STRIP.left + (plot * day) / days, y: (minutes) => STRIP.top + (STRIP.height * (60 - minutes)) / 60 };
  }

  showStrip() {
    const stages = this.stages();
    if (this.shownStages !== stages.length) this.buildStrip(stages.length);
    const at = this.scale();
    const height = STRIP.top + STRIP.height + STRIP.bottom;
    put(this.strip, { width: at.width, height, viewBox: `0 0 ${at.width} ${height}` });
    let from = 0;
    let lastNumber = -1e9;
    const runs = [];
    stages.forEach((stage, index) => {
      const part = this.stripParts[index];
      const isLast = index === stages.length - 1;
      const days = Number(stage.days) || 0;
      const until = isLast ? Math.max(at.days, from) : from + days;
      const minutes = { block: Number(stage.block) || 0, throttle: Number(stage.throttle) || 0 };
      const held = minutes.block + minutes.throttle;
      const [x, x2] = [at.x(from), Math.min(at.x(until), at.width - STRIP.right)];
      const width = Math.max(1, x2 - x);
      const rect = (low, high) => ({ x, width, y: at.y(high), height: Math.max(0, at.y(low) - at.y(high)) });
      put(part.accepted, rect(0, 60));
      put(part.block, rect(0, Math.min(60, minutes.block)));
      put(part.throttle, rect(Math.min(60, minutes.block), Math.min(60, held)));
      const isWrong = this.problemsAt("stages", index).length > 0 || this.problemsAt("stages").some((each) => each.place.length === 1);
      part.group.classList.toggle("wrong", isWrong);
      put(part.outline, { ...rect(0, 60), visibility: isWrong ? "visible" : "hidden" });
      put(part.wrong, { x: x + width / 2, y: at.y(30), visibility: isWrong && width > 30 ? "visible" : "hidden" });
      runs.push({ part, x, x2 });
      const isRoomy = x - lastNumber > 26;
      if (isRoomy) lastNumber = x;
      put(part.day, { x, y: STRIP.top + STRIP.height + 14, visibility: isRoomy ? "visible" : "hidden" });
      part.day.textContent = String(from);
      const words = this.view.words?.[index] ?? "";
      part.title.textContent = `stage ${index + 1}: ${words}`;
      this.placeHandle(part.edge, { x: x2, y: STRIP.top, isShown: !isLast }, days, 1, 400, `days of stage ${index + 1}`, plural(days, "day"));
      this.placeHandle(part.blockGrip, { x: x + width * 0.3, y: at.y(Math.min(60, minutes.block)), width, isShown: true }, minutes.block, 0, 60,
        `minutes blocked in stage ${index + 1}`, `${minutes.block} minutes of each hour refused`);
      this.placeHandle(part.throttleGrip, { x: x + width * 0.7, y: at.y(Math.min(60, held)), width, isShown: true }, minutes.throttle, 0, 60,
        `minutes throttled in stage ${index + 1}`, `${minutes.throttle} minutes of each hour deferred`);
      from = until;
    });
    this.showPhases(runs, at.width);
    put(this.wholeOutline, { x: STRIP.left, y: STRIP.top, width: at.width - STRIP.left - STRIP.right, height: STRIP.height });
    put(this.axisText, { x: at.width / 2, y: STRIP.top + STRIP.height + 30 });
    for (const [text, minutes] of this.minuteTexts) put(text, { x: STRIP.left - 5, y: at.y(minutes) + 4 });
  }

  // The name of a phase stands once above the stages that have it, in the first row where it meets no other; where all
  // are full it is left to the stage's own tooltip and to the stages as numbers.
  showPhases(runs, width) {
    const phases = (this.view.phases ?? []).length === runs.length && !this.view.problems?.length ? this.view.phases : this.shownPhases;
    this.shownPhases = phases?.length === runs.length ? phases : [];
    const ends = Array(PHASE_ROWS).fill(-1e9);
    runs.forEach(({ part, x }, index) => {
      const name = this.shownPhases[index] ?? "";
      let last = index;
      while (this.shownPhases[last + 1] === name) last += 1;
      const half = name.length * 3.1;
      const middle = Math.min(Math.max((x + runs[last].x2) / 2, STRIP.left + half), width - STRIP.right - half);
      const isFirst = name && name !== this.shownPhases[index - 1];
      const row = ends.findIndex((end) => middle - half > end + 8);
      const isShown = Boolean(isFirst) && row >= 0;
      if (isShown) ends[row] = middle + half;
      part.phase.textContent = name;
      put(part.phase, { x: middle, y: STRIP.top - 8 - 12 * Math.max(0, row), visibility: isShown ? "visible" : "hidden" });
    });
  }

  placeHandle(handle, where, now, least, most, label, text) {
    put(handle, {
      transform: `translate(${where.x.toFixed(1)} ${where.y.toFixed(1)})`,
      visibility: where.isShown ? "visible" : "hidden",
      tabindex: where.isShown ? 0 : -1,
      "aria-valuenow": now, "aria-valuemin": least, "aria-valuemax": most, "aria-label": label, "aria-valuetext": text,
    });
    const size = where.width == null ? 1 : Math.max(0.45, Math.min(1, where.width / 44));
    if (handle.firstChild) put(handle.lastChild, { transform: where.width == null ? null : `scale(${size.toFixed(2)} 1)` });
  }

  buildStrip(n) {
    const focused = this.root.getRootNode().activeElement?.dataset?.key;
    this.shownStages = n;
    this.stripParts = [];
    const groups = draw("g");
    const marks = draw("g");
    const handles = draw("g");
    for (let index = 0; index < n; index += 1) {
      const group = draw("g", { class: "stage", "data-stage": index });
      const part = {
        group,
        title: draw("title"),
        accepted: draw("rect", { fill: COLOURS.accepted, stroke: "#fff" }),
        throttle: draw("rect", { fill: COLOURS.delayed, stroke: "#fff" }),
        block: draw("rect", { fill: COLOURS.lost, stroke: "#fff" }),
        outline: draw("rect", { class: "outline" }),
        wrong: draw("text", { class: "wrong-text", "text-anchor": "middle" }, "not valid"),
        phase: draw("text", { class: "phase", "text-anchor": "middle" }),
        day: draw("text", { class: "day" }),
        edge: this.handle("edge", index, "days", draw("rect", { class: "grip", x: -2.5, y: 0, width: 5, height: STRIP.height, rx: 2 })),
        blockGrip: this.handle("grip", index, "block", draw("rect", { class: "grip", x: -11, y: -3.5, width: 22, height: 7, rx: 3 })),
        throttleGrip: this.handle("grip", index, "throttle", draw("rect", { class: "grip", x: -11, y: -3.5, width: 22, height: 7, rx: 3 })),
      };
      group.append(part.title, part.accepted, part.block, part.throttle, part.phase, part.day);
      marks.append(part.outline, part.wrong);
      groups.append(group);
      handles.append(part.edge, part.blockGrip, part.throttleGrip);
      this.stripParts.push(part);
    }
    this.wholeOutline = draw("rect", { class: "frame" });
    this.axisText = draw("text", { class: "axis", "text-anchor": "middle" }, "days on a server's clock (minutes of each hour upwards)");
    this.minuteTexts = [0, 30, 60].map((minutes) => [draw("text", { class: "axis", "text-anchor": "end" }, String(minutes)), minutes]);
    this.strip.replaceChildren(groups, marks, this.wholeOutline, this.axisText, ...this.minuteTexts.map(([text]) => text), handles);
    if (focused) (this.strip.querySelector(`[data-key="${focused}"]`) ?? this.strip.querySelector("[role=slider]"))?.focus();
  }

  handle(kind, index, key, grip) {
    const handle = draw("g", { class: `handle ${kind} ${key}`, role: "slider", tabindex: 0, "data-key": `${key}-${index}`, "data-stage": index,
      "aria-orientation": kind === "edge" ? "horizontal" : "vertical" });
    const reach = kind === "edge" ? { x: -6, y: 0, width: 12, height: STRIP.height } : { x: -13, y: -8, width: 26, height: 16 };
    handle.append(draw("rect", { ...reach, fill: "transparent" }), grip);
    handle.addEventListener("pointerdown", (event) => this.grab(event, handle, index, key));
    return handle;
  }

  grab(event, handle, index, key) {
    if (event.button !== 0 || this.isLost) return;
    event.preventDefault();
    event.stopPropagation();
    handle.focus({ preventScroll: true });
    const at = this.scale();
    const began = { x: event.clientX, y: event.clientY, value: Number(this.stages()[index][key]) || 0 };
    const aDay = (at.width - STRIP.left - STRIP.right) / at.days;
    this.gestures += 1;
    const gesture = `drag ${this.me} ${this.gestures}`;
    this.dragging = { days: at.days };
    handle.setPointerCapture(event.pointerId);
    let last = began.value;
    const move = (moved) => {
      const change = key === "days" ? (moved.clientX - began.x) / aDay : ((began.y - moved.clientY) * 60) / STRIP.height;
      const value = Math.round(Math.min(key === "days" ? 400 : 60, Math.max(key === "days" ? 1 : 0, began.value + change)));
      if (value === last) return;
      last = value;
      this.setStage(index, key, value, gesture, moved.timeStamp);
    };
    const drop = () => {
      this.dragging = null;
      handle.removeEventListener("pointermove", move);
      handle.removeEventListener("pointerup", drop);
      handle.removeEventListener("pointercancel", drop);
      if (!this.inFlight && !this.queue.length) this.local = null;
      this.show();
    };
    handle.addEventListener("pointermove", move);
    handle.addEventListener("pointerup", drop);
    handle.addEventListener("pointercancel", drop);
  }

  stripKey(event) {
    const handle = event.target.closest?.("[role=slider]");
    if (!handle || this.isLost || event.ctrlKey || event.metaKey || event.altKey) return;
    const [key, at] = handle.dataset.key.split("-");
    const index = Number(at);
    const steps = { ArrowRight: 1, ArrowUp: 1, "+": 1, "=": 1, ArrowLeft: -1, ArrowDown: -1, "-": -1, "−": -1, PageUp: 10, PageDown: -10 };
    if (event.key in steps) {
      const [least, most] = key === "days" ? [1, 400] : [0, 60];
      const now = Number(this.stages()[index][key]) || 0;
      const value = Math.min(most, Math.max(least, now + steps[event.key] * (event.shiftKey && event.key.startsWith("Arrow") ? 5 : 1)));
      if (value !== now) this.setStage(index, key, value, this.keyGesture(handle.dataset.key), event.timeStamp);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.wish({ do: "stage", act: "delete", at: index }, event.timeStamp);
    } else if (event.key === "Insert" || event.key === "i") {
      this.wish({ do: "stage", act: "insert", at: index }, event.timeStamp);
    } else return;
    event.preventDefault();
  }

  undoKey(event) {
    const isUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    if (!isUndo || event.target.matches("input") || this.isLost) return;
    event.preventDefault();
    this.wish({ do: event.shiftKey ? "redo" : "undo" }, event.timeStamp);
  }

  showProblems() {
    const found = this.view.problems ?? [];
    if (same(found, this.shownProblems)) return;
    this.shownProblems = found;
    this.root.classList.toggle("invalid", found.length > 0);
    const intro = found.length ? [make("li", { className: "intro", textContent: `Not valid, cannot be saved (${plural(found.length, "problem")}):` })] : [];
    this.problems.replaceChildren(...intro, ...found.slice(0, 8).map((problem) => make("li", { textContent: problem.line })));
  }

  showStageTable() {
    const stages = this.stages();
    if (this.shownRows !== stages.length) {
      this.shownRows = stages.length;
      this.stageRows = stages.map((_, index) => {
        const field = (key, label) =>
          this.field("input", { type: "number", min: key === "days" ? 1 : 0, max: key === "days" ? 400 : 60, "aria-label": `${label} ${index + 1}` },
            () => ["stages", index, key], (text) => (text === "" || (key !== "days" && text === "0") ? null : text));
        const row = { days: field("days", "days of stage"), throttle: field("throttle", "minutes throttled in stage"), block: field("block", "minutes blocked in stage"), phase: make("td") };
        const wish = (act) => (event) => this.wish({ do: "stage", act, at: index }, event.timeStamp);
        row.node = make("tr", {}, make("td", { textContent: String(index + 1) }), row.phase, make("td", {}, row.days), make("td", {}, row.throttle), make("td", {}, row.block),
          make("td", {}, make("button", { type: "button", textContent: "insert after", onclick: wish("insert") }), " ",
            make("button", { type: "button", textContent: "delete", onclick: wish("delete") })));
        return row;
      });
      const head = ["stage", "phase", "days", "min throttled", "min blocked", ""].map((text) => make("th", { textContent: text }));
      this.stageTable.replaceChildren(make("tr", {}, ...head), ...this.stageRows.map((row) => row.node));
    }
    stages.forEach((stage, index) => {
      const row = this.stageRows[index];
      for (const key of ["days", "throttle", "block"]) {
        fill(row[key], stage[key] ?? (key === "days" ? "" : 0));
        this.markField(row[key], null, "stages", index, key);
      }
      row.days.placeholder = index === stages.length - 1 ? "no end" : "";
      row.phase.textContent = this.view.phases?.[index] ?? "";
    });
  }

  addRule() {
    const rules = this.view.policy.rules ?? [];
    const name = this.freeName("rule", rules);
    this.act("insert", ["rules", rules.length], { name, since: "missing_since", after_days: 90 });
  }

  addCohort() {
    const cohorts = this.view.policy.cohorts ?? [];
    const day = (this.view.days ?? []).at(-1) ?? new Date().toISOString().slice(0, 10);
    this.act("insert", ["cohorts", cohorts.length], { name: this.freeName("cohort", cohorts), starts_on: day });
  }

  freeName(word, parts) {
    let n = parts.length + 1;
    while (parts.some((part) => part.name === `${word} ${n}`)) n += 1;
    return `${word} ${n}`;
  }

  showRules() {
    const rules = this.view.policy.rules ?? [];
    if (!Array.isArray(rules)) return;
    if (this.shownRules !== rules.length || this.rulesPath !== this.view.path) {
      this.shownRules = rules.length;
      this.rulesPath = this.view.path;
      this.ruleParts = rules.map((_, index) => this.buildRule(index));
      this.rules.replaceChildren(...this.ruleParts.map((part) => part.node));
    }
    rules.forEach((rule, index) => {
      const part = this.ruleParts[index];
      fill(part.name, rule.name);
      fill(part.since, rule.since);
      fill(part.after, rule.after_days ?? 0);
      fill(part.when, rule.when == null ? "" : String(rule.when).replace(/\s+/g, " ").trim());
      for (const [key, field] of [["name", part.name], ["since", part.since], ["after_days", part.after], ["when", part.when]]) {
        this.markField(field, null, "rules", index, key);
      }
      this.markField(part.node, part.problem, "rules", index);
      const each = this.view.rules?.each?.[index];
      const isOld = this.view.problems?.length ? " (before the error)" : "";
      part.catch.textContent = each
        ? `catches ${plural(each.builds, "build")}, ${plural(each.servers, "server")}, ${plural(each.messages, "message")} of the history, as of ${this.view.rules.on.replaceAll("-", "\u2011")}${isOld}`
        : "";
    });
    this.showCaught();
  }

  buildRule(index) {
    const part = {
      name: this.field("input", { size: 12, "aria-label": `name of rule ${index + 1}` }, () => ["rules", index, "name"]),
      since: make("select", { "aria-label": `date of rule ${index + 1}`, onchange: () => this.act("set", ["rules", index, "since"], part.since.value) }),
      after: this.field("input", { type: "number", min: 0, max: 3660, "aria-label": `days of rule ${index + 1}` }, () => ["rules", index, "after_days"], (text) => text || null),
      when: this.field("input", { className: "when", spellcheck: false, placeholder: "only builds for which … e.g. product <> 'Exchange Server SE'", "aria-label": `when of rule ${index + 1}` },
        () => ["rules", index, "when"], (text) => text || null),
      problem: make("p", { className: "problem" }),
      catch: make("p", { className: "catch" }),
    };
    part.problem.setAttribute("aria-live", "polite");
    for (const since of SINCE) part.since.append(make("option", { value: since, textContent: since.replaceAll("_", " ") }));
    const remove = make("button", { type: "button", textContent: "delete", title: `delete rule ${index + 1}`, onclick: () => this.act("delete", ["rules", index]) });
    part.node = make("div", { className: "part" },
      make("div", { className: "row" }, part.name, part.after, make("span", { textContent: "days after" }), part.since, remove),
      make("label", { className: "row" }, "when ", part.when), part.problem, part.catch);
    part.node.addEventListener("focusin", () => {
      this.opensCaught = true;
      if (this.focused === index) return;
      this.focused = index;
      this.wish({ do: "focus", rule: index });
    });
    return part;
  }

  showCaught() {
    const { moved, caught } = this.view.rules ?? {};
    if (!moved) return;
    const side = (of) => `${plural(of.builds, "build")} (${of.names.join(", ")}${of.builds > of.names.length ? ", …" : ""}), ${plural(of.servers, "server")}, ${plural(of.messages, "message")}`;
    const parts = [];
    if (moved.gained.builds) parts.push(`newly caught: ${side(moved.gained)}`);
    if (moved.let_go.builds) parts.push(`let go: ${side(moved.let_go)}`);
    this.moved.textContent = `All rules together, against the saved policy: ${parts.join("; ") || "the same builds"}.`;
    if (same([caught, this.opensCaught], this.shownCaught)) return;
    this.shownCaught = [caught, this.opensCaught];
    if (!caught) {
      this.caught.replaceChildren();
      return;
    }
    const name = this.view.policy.rules?.[caught.rule]?.name ?? "";
    const table = (head, rows, kind = "") => make("table", { className: kind }, make("tr", {}, ...head.map((text) => make("th", { textContent: text }))),
      ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", { textContent: cell ?? "–" })))));
    this.caught.replaceChildren(
      make("details", { open: Boolean(this.opensCaught), ontoggle: (event) => (this.opensCaught = event.target.open) },
        make("summary", { textContent: `What rule ${name} catches, those with most mail first` }),
        table(["build", "is at least", "hop", "servers", "messages"], caught.top_builds.map((row) => [row.build, row.update, row.hop, number.format(row.servers), number.format(row.messages)])),
        make("p", { className: "cut", textContent: `shown ${caught.top_builds.length} of ${number.format(caught.n_builds)}` }),
        table(["server", "tenant", "messages"], caught.top_servers.map((row) => [row.server, row.tenant, number.format(row.messages)]), "long"),
        make("p", { className: "cut", textContent: `shown ${caught.top_servers.length} of ${number.format(caught.servers)}` })));
  }

  showCohorts() {
    const cohorts = this.view.policy.cohorts ?? [];
    if (!Array.isArray(cohorts)) return;
    if (this.shownCohorts !== cohorts.length || this.cohortsPath !== this.view.path) {
      this.shownCohorts = cohorts.length;
      this.cohortsPath = this.view.path;
      this.cohortParts = cohorts.map((_, index) => {
        const field = (key, properties) => this.field("input", { "aria-label": `${key.replaceAll("_", " ")} of cohort ${index + 1}`, ...properties }, () => ["cohorts", index, key], (text) => (text === "" && key !== "name" ? null : text));
        const part = {
          name: field("name", { size: 12 }),
          starts_on: field("starts_on", { size: 10, placeholder: "YYYY-MM-DD" }),
          products: field("products", { className: "wide", placeholder: "all products" }),
          tenants: field("tenants", { className: "wide", placeholder: "all tenants" }),
          share_of_tenants: field("share_of_tenants", { size: 5, placeholder: "all" }),
          problem: make("p", { className: "problem" }),
        };
        part.node = make("div", { className: "part" },
          make("div", { className: "row" }, part.name, make("label", {}, "from ", part.starts_on), make("label", {}, "share of tenants ", part.share_of_tenants),
            make("button", { type: "button", textContent: "delete", title: `delete cohort ${index + 1}`, onclick: () => this.act("delete", ["cohorts", index]) })),
          make("label", { className: "row" }, "products ", part.products), make("label", { className: "row" }, "tenants ", part.tenants), part.problem);
        return part;
      });
      this.cohorts.replaceChildren(...this.cohortParts.map((part) => part.node));
    }
    cohorts.forEach((cohort, index) => {
      const part = this.cohortParts[index];
      for (const key of ["name", "starts_on", "products", "tenants", "share_of_tenants"]) {
        fill(part[key], Array.isArray(cohort[key]) ? cohort[key].join(", ") : cohort[key]);
        this.markField(part[key], null, "cohorts", index, key);
      }
      this.markField(part.node, part.problem, "cohorts", index);
    });
  }

  // What has no field here is shown all the same, lest somebody think it gone.
  showBeside() {
    const { beside, target } = this.view;
    if (!beside || same([beside, target], this.shownBeside)) return;
    this.shownBeside = [beside, target];
    this.fileHint.textContent = `Saving keeps it. To change it, save, edit ${target} in any editor, and load it again.`;
    this.beside.replaceChildren(...beside.map(([what, words]) => make("tr", {}, make("th", { scope: "row", textContent: what }), make("td", { textContent: words }))));
  }

  showPictures() {
    const { view } = this;
    const isAhead = Boolean(view.ahead && view.ahead_baseline);
    const [now, beside] = isAhead ? [view.ahead, view.ahead_baseline] : [view.picture, view.baseline];
    this.stale.hidden = !view.stale;
    this.root.classList.toggle("old", Boolean(this.isOld));
    if (!now || !beside) return;
    const named = view.baseline?.name ?? "none";
    const besideNamed = named === "none" ? "nothing enforced" : named;
    const days = isAhead ? this.daysAhead(view) : view.days;
    this.basis.textContent = isAhead
      ? `Expected over the 365 days after ${view.as_of}, of all mail; means without bands, resting on ${plural(view.n_guesses, "guess").replace("guesss", "guesses")} among the assumptions. Dashed: ${besideNamed}.`
      : `Of ${number.format(view.read)} messages read from ${view.days[0]} to ${view.days.at(-1)}. Dashed: ${besideNamed}.`;
    if (view.baseline_problem) this.basis.textContent += ` ${view.baseline_problem}`;
    if (!this.figureParts) {
      this.figureParts = Object.keys(LABELS).map((name) => {
        const part = { name, value: make("b"), more: make("small") };
        part.node = make("div", { className: `figure ${name}` }, make("span", { textContent: LABELS[name].toLowerCase() }), part.value, part.more);
        return part;
      });
      this.figures.replaceChildren(...this.figureParts.map((part) => part.node));
    }
    for (const part of this.figureParts) {
      const [share, other] = [now.shares[part.name], beside.shares[part.name]];
      part.value.textContent = percent(share);
      const more = share == null || other == null ? "" : `${share >= other ? "+" : "−"}${(100 * Math.abs(share - other)).toFixed(1)} points to the baseline`;
      part.more.textContent = `${number.format(now.totals[part.name])} messages ${SAYS[part.name]}; ${more}`;
    }
    for (const [name, chart] of Object.entries(this.charts)) chart.show(now.by_day[name], beside.by_day[name], days);
    this.drawn = { now, beside, days };
    this.showReadout();
    if (isAhead) {
      this.decilesTitle.hidden = true;
      this.deciles.style.display = "none";
    } else {
      this.decilesTitle.hidden = false;
      this.deciles.style.display = "";
      this.showDeciles(now.deciles, beside.deciles);
    }
  }

  daysAhead(view) {
    if (this.aheadOf !== view.as_of || this.aheadDays?.length !== view.ahead.days.length) {
      this.aheadOf = view.as_of;
      const first = Date.parse(`${view.as_of}T00:00:00Z`);
      this.aheadDays = view.ahead.days.map((day) => new Date(first + day * 864e5).toISOString().slice(0, 10));
    }
    return this.aheadDays;
  }

  showReadout() {
    const { now, beside, days } = this.drawn ?? {};
    const at = this.hovered;
    if (!now || at == null || !days[at]) {
      this.readout.textContent = "Point at a day for its numbers.";
      return;
    }
    const parts = Object.keys(LABELS).map((name) => `${LABELS[name].toLowerCase()} ${percent(now.by_day[name][at])} (baseline ${percent(beside.by_day[name][at])})`);
    const servers = now.servers ? `; ${number.format(now.servers[at])} vulnerable servers (baseline ${number.format(beside.servers[at])})` : "";
    this.readout.textContent = `${days[at]}: ${parts.join(", ")}${servers}, of the day's mail`;
  }

  showDeciles(now, beside) {
    const width = Math.max(320, this.deciles.parentNode.clientWidth || 420);
    const [left, top, high] = [46, 8, 84];
    if (!this.decileParts) {
      this.decileParts = [];
      for (let at = 0; at < 10; at += 1) {
        for (const name of ["delayed", "lost"]) {
          const part = { at, name, bar: draw("rect", { fill: COLOURS[name] }), tick: draw("line", { class: "beside" }), title: draw("title") };
          part.bar.append(part.title);
          this.decileParts.push(part);
        }
      }
      this.decileTexts = Array.from({ length: 10 }, (_, at) => draw("text", { class: "axis", "text-anchor": "middle" }, String(at + 1)));
      this.decileAxis = [0, 1].map(() => draw("text", { class: "axis", "text-anchor": "end" }));
      this.decileKey = draw("text", { class: "axis", x: left, y: top + high + 30 }, "amber: delayed, vermilion: lost, dashed: baseline");
      this.deciles.replaceChildren(...this.decileParts.flatMap((part) => [part.bar, part.tick]), ...this.decileTexts, ...this.decileAxis, this.decileKey);
    }
    put(this.deciles, { width, height: top + high + 36, viewBox: `0 0 ${width} ${top + high + 36}`, "aria-label":
      `Delayed and lost by tenth of tenants: ${now.delayed.map((share, at) => `${at + 1}: ${percent(share)} delayed, ${percent(now.lost[at])} lost`).join("; ")}` });
    const most = nice(Math.max(0, ...now.delayed, ...now.lost, ...beside.delayed, ...beside.lost));
    const step = (width - left - 6) / 10;
    const y = (share) => top + high * (1 - (share ?? 0) / most);
    for (const part of this.decileParts) {
      const x = left + step * part.at + (part.name === "lost" ? step / 2 : step * 0.1);
      const wide = step * 0.38;
      const [share, other] = [now[part.name][part.at], beside[part.name][part.at]];
      put(part.bar, { x, width: wide, y: y(share), height: Math.max(0, top + high - y(share)) });
      put(part.tick, { x1: x - 1, x2: x + wide + 1, y1: y(other), y2: y(other) });
      part.title.textContent = `tenth ${part.at + 1}: ${percent(share)} ${part.name} (baseline ${percent(other)})`;
    }
    this.decileTexts.forEach((text, at) => put(text, { x: left + step * (at + 0.5), y: top + high + 14 }));
    [[0, 0], [1, most]].forEach(([at, share]) => {
      put(this.decileAxis[at], { x: left - 5, y: y(share) + 4 });
      this.decileAxis[at].textContent = percent(share, most < 0.05 ? 1 : 0);
    });
  }

  showGuardrails() {
    const after = this.replayed;
    const rails = after?.guardrails ?? this.view.guardrails ?? [];
    const told = [rails, after?.tenants ?? null];
    if (same(told, this.shownRails)) return;
    this.shownRails = told;
    if (!rails.length) this.guardrails.replaceChildren(make("p", { textContent: "The policy has none." }));
    else {
      const row = (rail) => [rail.measure.replaceAll("_", " "), rail.per, `at most ${percent(rail.at_most)}`, STATES[rail.state] ?? rail.state,
        rail.worst_share == null ? "" : `${percent(rail.worst_share)} (${rail.worst_unit}); ${rail.n_exceeded} of ${rail.n_judged} exceed`];
      this.guardrails.replaceChildren(make("table", {}, make("tr", {}, ...["measure", "per", "bound", "state", "worst"].map((text) => make("th", { textContent: text }))),
        ...rails.map((rail) => make("tr", { className: `rail ${rail.state.replaceAll(" ", "-")}` }, ...row(rail).map((text) => make("td", { textContent: text }))))));
    }
    if (!after) {
      this.hit.replaceChildren(make("p", { textContent: "Who is hit (tenants, servers): computed on save." }));
      return;
    }
    this.hit.replaceChildren(
      make("p", { textContent: `Of ${plural(after.tenants, "tenant")}, ${number.format(after.delayed)} have mail delayed, ${number.format(after.lost)} lose some, ${number.format(after.over_a_tenth)} lose more than 10 % of theirs.` }),
      make("table", {}, make("tr", {}, ...["hardest hit", "messages", "delayed", "lost"].map((text) => make("th", { textContent: text }))),
        ...after.top.map((row) => make("tr", {}, make("td", { className: "long", textContent: row.tenant }), ...[row.read, row.delayed, row.lost].map((count) => make("td", { textContent: number.format(count) }))))),
      make("p", { className: "cut", textContent: `shown ${after.top.length} of ${number.format(after.tenants)}` }));
  }

  showDiffers() {
    const rows = this.view.differs ?? [];
    const told = [rows, this.view.changed, this.remarks ?? []];
    if (same(told, this.shownDiffers)) return;
    this.shownDiffers = told;
    const empty = this.view.changed ? "Only words (name, title, author, reference, baseline), or it is not valid." : "Nothing.";
    this.differs.replaceChildren(rows.length
      ? make("table", {}, make("tr", {}, ...["what", "as saved", "now"].map((text) => make("th", { textContent: text }))),
          ...rows.map((row) => make("tr", {}, ...row.map((text) => make("td", { textContent: text })))))
      : make("p", { textContent: empty }));
    this.remarked.replaceChildren(...(this.remarks ?? []).map((each) => make("li", { textContent: `${each.severity}: ${each.message}` })));
  }

  showFoot() {
    const { view, latencies } = this;
    const waits = this.inFlight ? performance.now() - this.inFlight.since : 0;
    const sorted = [...latencies].sort((a, b) => a - b);
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
    const ms = (value) => `${value.toFixed(0)} ms`;
    if (this.isLost) this.timing.textContent = "No kernel.";
    else if (waits > WAITS_MS) this.timing.textContent = `Waiting for the kernel for ${(waits / 1000).toFixed(0)} s (it counts, or other cells run).`;
    else if (latencies.length) {
      this.timing.textContent = `Last judgement: ${ms(latencies.at(-1))} from mouse to picture (${ms(this.kernelMs)} in the kernel); median ${ms(at(0.5))}, 95 % within ${ms(at(0.95))} of ${latencies.length}.`;
    } else this.timing.textContent = this.ms == null ? "" : `Last judgement: ${ms(this.ms)} in the kernel.`;
    this.exact.textContent = this.isOld
      ? "Not valid now: the pictures show the last valid state."
      : `Exact on the history${view.stale ? " as counted before" : ""}: delayed, lost, risk left, tenths, guardrails per day and in total. Computed on save: who is hit, guardrails per tenant${view.stale ? ", the change of rules, cohorts, window or pauses" : ""}.${view.ahead ? " Expected days to come: means, by week." : ""}`;
    if (this.isLost || !view.policy) return;
    const isInvalid = (view.problems ?? []).length > 0;
    this.buttons.undo.disabled = !view.can_undo;
    this.buttons.redo.disabled = !view.can_redo;
    this.buttons.save.disabled = isInvalid;
    this.buttons.save.title = isInvalid ? `Not valid: ${view.problems[0].line}` : "Keeps your comments and layout";
    this.buttons.save.textContent = view.changed ? "Save •" : "Save";
    this.buttons.replay.disabled = view.changed || isInvalid;
    this.buttons.export.disabled = view.changed || isInvalid;
  }
}

// A measure over the days: the draft as a line, the baseline dashed.
class Lines {
  constructor(designer, name, hasAxis) {
    this.designer = designer;
    this.name = name;
    this.hasAxis = hasAxis;
    this.node = draw("svg", { class: `lines ${name}`, role: "img" });
    this.area = draw("path", { fill: COLOURS[name], opacity: 0.12 });
    this.beside = draw("path", { class: "beside", fill: "none" });
    this.now = draw("path", { class: "now", fill: "none", stroke: COLOURS[name], "stroke-width": 1.8, "stroke-linejoin": "round" });
    this.title = draw("text", { class: "title", x: 46, y: 12 });
    this.axis = [0, 1].map(() => draw("text", { class: "axis", "text-anchor": "end", x: 41 }));
    this.rules = [0, 1].map(() => draw("line", { class: "grid" }));
    this.ticks = Array.from({ length: 7 }, () => draw("text", { class: "axis" }));
    this.cross = draw("line", { class: "cross", visibility: "hidden" });
    this.node.append(...this.rules, this.area, this.beside, this.now, this.cross, this.title, ...this.axis, ...(hasAxis ? this.ticks : []));
    this.node.addEventListener("pointermove", (event) => this.point(event));
    this.node.addEventListener("pointerleave", () => this.hover(null));
  }

  point(event) {
    const { left, width } = this.node.getBoundingClientRect();
    const share = (event.clientX - left - 46) / (width - 52);
    this.hover(share < 0 || share > 1 ? null : Math.round(share * (this.n - 1)));
  }

  hover(at) {
    this.designer.hovered = at;
    for (const chart of Object.values(this.designer.charts)) chart.mark(at);
    this.designer.showReadout();
  }

  mark(at) {
    const x = at == null ? 0 : this.x(at);
    put(this.cross, { x1: x, x2: x, y1: 18, y2: 84, visibility: at == null ? "hidden" : "visible" });
  }

  show(now, beside, days) {
    const width = Math.max(320, this.node.parentNode?.clientWidth || 420);
    const height = this.hasAxis ? 106 : 90;
    const [left, top, bottom] = [46, 18, 84];
    this.n = days.length;
    this.x = (at) => left + ((width - left - 6) * at) / Math.max(1, this.n - 1);
    let most = 0;
    for (const values of [now, beside]) for (const value of values) if (value > most) most = value;
    most = Math.min(1, nice(most));
    const y = (share) => bottom - ((bottom - top) * share) / most;
    const path = (values) => {
      let line = "";
      let isDown = false;
      values.forEach((value, at) => {
        if (value == null) isDown = false;
        else {
          line += `${isDown ? "L" : "M"}${this.x(at).toFixed(1)} ${y(value).toFixed(1)}`;
          isDown = true;
        }
      });
      return line;
    };
    put(this.node, { width, height, viewBox: `0 0 ${width} ${height}`, "aria-label": `${LABELS[this.name]} by day, as a share of the day's mail` });
    put(this.now, { d: path(now) });
    put(this.beside, { d: path(beside) });
    put(this.area, { d: now.includes(null) ? "" : `${path(now)}L${this.x(this.n - 1)} ${bottom}L${left} ${bottom}Z` });
    this.title.textContent = `${LABELS[this.name]}: ${SAYS[this.name]} (% of the day's mail)`;
    [0, most].forEach((share, at) => {
      put(this.axis[at], { y: y(share) + 4 });
      this.axis[at].textContent = percent(share, most < 0.05 ? 1 : 0);
      put(this.rules[at], { x1: left, x2: width - 6, y1: y(share), y2: y(share) });
    });
    if (!this.hasAxis) return;
    const step = Math.max(1, Math.ceil((this.n - 1) / Math.max(2, Math.min(6, Math.floor(width / 110)))));
    this.ticks.forEach((tick, place) => {
      const at = place * step;
      const isShown = at < this.n;
      put(tick, { visibility: isShown ? "visible" : "hidden", x: isShown ? this.x(at) : 0, y: bottom + 17, "text-anchor": at === 0 ? "start" : this.x(at) > width - 40 ? "end" : "middle" });
      tick.textContent = isShown ? days[at] : "";
    });
  }
}

function render({ model, el }) {
  const root = document.createElement("div");
  el.append(root);
  const designer = new Designer(model, root);
  return () => designer.end();
}

export default { render };
