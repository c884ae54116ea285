// The page: reads the changes once a second, keeps an hour of them, and shows what passes the filters.
// Text from a client enters the page only as text, never as markup.
import { Plot, clock, element, setText, short } from "./plot.js";
import { current, named, switchLanguage, word } from "./words.js";

const POLL_MS = 1000, KEPT_S = 3600, FRESH_S = 60, CARDS = 60, ROWS = 50, POINTS = 300000, POINTS_PER_SERIES = 4000, REASONS = 8;
const DELIVERED = ["delivered", "duplicate"], BUCKETS = 60;
const OUTCOME_CLASS = { delivered: "good", duplicate: "good", filtered: "soft", spooled: "warn", uncertain: "warn", undelivered: "warn" };
// The switches, and the fault of the emulator that each sets.
const PRESETS = {
  "code 1006": { fault: "code", value: 1006 }, "code 1003": { fault: "code", value: 1003 }, "status 503": { fault: "status", value: 503 },
  delay: { fault: "delay", value: 2 }, reset: { fault: "reset" }, hang: { fault: "hang" }, garbage: { fault: "garbage" }, truncate: { fault: "truncate" },
};

const get = (id) => document.getElementById(id);
const known = { run: "", next: 0, now: 0, source: "emulator", faults: [], limits: {}, commands: [] };
let series = new Map(), requests = new Map(), reports = [], cards = new Map();
let wanted = CARDS, isPaused = false, isLost = false, isLoaded = false, timer = null, pollNumber = 0;

// --- what is known ---

function forget() {
  series = new Map(), requests = new Map(), reports = [];
}

function take(news) {
  if (news.run !== known.run) forget();
  Object.assign(known, { run: news.run, next: news.next, now: news.now, source: news.source, faults: news.faults ?? [], limits: news.limits ?? {}, commands: news.try });
  const rows = [];
  for (const [place, at, value, state] of news.points) {
    const one = (rows[place] ??= seriesOf(news.series[place]));
    one.points.push([at, value, !DELIVERED.includes(state), state]);
  }
  for (const request of news.requests) requests.set(request.number, request);
  reports.push(...news.reports);
  forgetOld();
}

function seriesOf([namespace, metric, dimensions]) {
  const pairs = Object.entries(dimensions), key = JSON.stringify([namespace, metric, pairs]);
  let one = series.get(key);
  if (one === undefined) {
    const text = pairs.map(([name, value]) => `${name}=${value}`).join("  ");
    one = { key, namespace, metric, text, found: `${namespace} ${metric} ${text}`.toLowerCase(), points: [], born: series.size };
    series.set(key, one);
  }
  return one;
}

function forgetOld() {
  const oldest = known.now - KEPT_S;
  // The more series, the fewer points of each: a browser has no room for an hour of all of them.
  const most = Math.min(POINTS_PER_SERIES, Math.max(50, Math.floor(POINTS / series.size)));
  for (const [key, one] of series) {
    if (one.points.length > 1.2 * most) one.points.splice(0, one.points.length - most);
    if (one.points.length && one.points[0][0] < oldest) one.points = one.points.filter((row) => row[0] >= oldest);
    if (one.points.length === 0) series.delete(key);
  }
  for (const [number, request] of requests) {
    if (request.at >= oldest && requests.size <= 2000) break;
    requests.delete(number);
  }
  reports = reports.filter((report) => report.at >= oldest).slice(-2000);
}

// --- what is shown ---

function filters() {
  return {
    seconds: Number(document.querySelector("input[name=window]:checked").value),
    text: get("text").value.trim().toLowerCase(), namespace: get("namespace").value, state: get("series-state").value,
  };
}

function stateOf(one) {
  const last = one.points[one.points.length - 1];
  if (last[2]) return "failed";
  return last[0] >= known.now - FRESH_S ? "fresh" : "quiet";
}

// The newest first; series that arrive all the time keep their place, so that the cards do not move.
function chosen({ text, namespace, state, seconds }) {
  const from = known.now - seconds, found = [];
  for (const one of series.values()) {
    const last = one.points[one.points.length - 1];
    if (last[0] < from || (namespace && one.namespace !== namespace.slice(1)) || !one.found.includes(text)) continue;
    if (state && stateOf(one) !== state) continue;
    found.push([last[0] >= known.now - FRESH_S ? 0 : Math.ceil((known.now - last[0]) / 10), one]);
  }
  return found.sort((a, b) => a[0] - b[0] || b[1].born - a[1].born).map((row) => row[1]);
}

function makeCard(one) {
  const root = element("article"), names = element("div", "names", one.text || word("noDimensions"));
  const title = element("h3", "names-title", one.namespace ? `${one.namespace} / ${one.metric}` : one.metric);
  const value = element("div", "value"), latest = element("span"), badge = element("span", "badge"), count = element("div", "soft");
  const plot = new Plot((row) => `${clock(row[0])}  ${row[1]}${row[2] ? `  ${named("outcomeNames", row[3])}` : ""}`);
  title.dir = names.dir = "auto";
  value.append(latest, " ", badge);
  root.append(title, names, value, plot.root, count);
  return { root, names, latest, badge, count, plot };
}

function updateCard(card, one, from) {
  const state = stateOf(one), rows = one.points.filter((row) => row[0] >= from), last = one.points[one.points.length - 1];
  const numbers = rows.map((row) => row[1]).filter((value) => typeof value === "number");
  card.root.className = state === "failed" ? "failed" : "";
  setText(card.names, one.text || word("noDimensions"));
  setText(card.latest, String(last[1]));
  setText(card.badge, word(state));
  card.badge.className = `badge ${{ failed: "bad", fresh: "good", quiet: "soft" }[state]}`;
  setText(card.count, word("pointsIn", rows.length));
  const low = numbers.reduce((a, b) => Math.min(a, b), Infinity), high = numbers.reduce((a, b) => Math.max(a, b), -Infinity);
  card.plot.draw(rows, from, known.now, numbers.length ? word("chart", one.metric, rows.length, short(low), short(high), short(last[1])) : word("noneInWindow"));
}

function showSeries(filter) {
  const found = chosen(filter), drawn = found.slice(0, wanted), grid = get("series"), from = known.now - filter.seconds;
  const kept = new Map();
  for (const one of drawn) {
    const card = cards.get(one.key) ?? makeCard(one);
    updateCard(card, one, from);
    kept.set(one.key, card);
  }
  for (const [key, card] of cards) if (!kept.has(key)) card.root.remove();
  cards = kept;
  // A person who reads a card by keyboard would lose the place if cards moved.
  const isRead = grid.contains(document.activeElement) && grid !== document.activeElement;
  [...kept.values()].forEach((card, place) => {
    if (card.root.parentNode !== grid || (!isRead && grid.children[place] !== card.root)) grid.insertBefore(card.root, grid.children[place] ?? null);
  });
  setText(get("series-count"), found.length > drawn.length ? word("seriesCount", drawn.length, found.length) : word("seriesAll", found.length));
  get("more").hidden = found.length <= drawn.length;
  setText(get("more"), word("more", Math.min(CARDS, found.length - drawn.length)));
}

function showNamespaces() {
  const select = get("namespace"), names = [...new Set([...series.values()].map((one) => one.namespace))].sort();
  const options = [["", word("allNamespaces")], ...names.map((name) => [`=${name}`, name || word("noNamespace")])];
  const before = JSON.stringify([...select.options].map((option) => [option.value, option.text]));
  if (before === JSON.stringify(options)) return;
  const value = select.value;
  select.replaceChildren(...options.map(([key, text]) => new Option(text, key)));
  select.value = options.some(([key]) => key === value) ? value : "";
}

function counts(list, rows) {
  rows = rows.length ? rows : [["", word("none"), "soft"]];
  while (list.children.length > rows.length) list.lastElementChild.remove();
  rows.forEach(([number, text, style], place) => {
    let row = list.children[place];
    if (row === undefined) {
      row = element("li");
      row.append(element("b"), element("span"));
      list.append(row);
    }
    row.firstElementChild.className = style;
    setText(row.firstElementChild, number === "" ? "" : String(number));
    setText(row.lastElementChild, text);
  });
}

function add(table, key, count) {
  table.set(key, (table.get(key) ?? 0) + count);
}

const byCount = (table) => [...table].sort((a, b) => b[1] - a[1]);

function showRate(filter) {
  const from = known.now - filter.seconds, width = filter.seconds / BUCKETS;
  const good = new Array(BUCKETS).fill(0), bad = new Array(BUCKETS).fill(0);
  let lastMinute = 0;
  for (const one of series.values()) {
    for (let index = one.points.length - 1; index >= 0 && one.points[index][0] >= from; index--) {
      const [at, , failed] = one.points[index], place = Math.min(BUCKETS - 1, Math.floor((at - from) / width));
      (failed ? bad : good)[place] += 1;
      if (!failed && at >= known.now - FRESH_S) lastMinute += 1;
    }
  }
  const rows = (list) => list.map((count, place) => [from + (place + 0.5) * width, count / width, false]);
  const goodRows = rows(good), badRows = rows(bad).map((row) => [row[0], row[1], true]);
  goodRows.forEach((row, place) => row.push(badRows[place][1]));
  rate.draw(goodRows, from, known.now, word("rateLabel", short(Math.max(...goodRows.map((row) => row[1])))), badRows.some((row) => row[1]) ? badRows : []);
  setText(rateText, word("rateNow", short(Number((lastMinute / FRESH_S).toPrecision(3)))));
}

function showFlow(filter) {
  const from = known.now - filter.seconds, outcomes = new Map(), reasons = new Map(), answers = new Map(), times = [];
  const events = reports.filter((report) => report.at >= from);
  let received = 0;
  for (const event of events) {
    received += event.received;
    for (const [name, count] of Object.entries(event.outcomes)) if (count) add(outcomes, name, count);
    for (const error of event.errors) add(reasons, `${named("outcomeNames", error.outcome)} · ${error.rule} · ${error.message}`, 1);
    for (const reason of event.filtered) add(reasons, `${named("outcomeNames", "filtered")} · ${reason.rule} · ${reason.message}`, reason.count);
  }
  for (const request of requests.values()) {
    if (request.at < from || request.answer === null) continue;
    add(answers, JSON.stringify([answerText(request), request.ok]), 1);
    if (request.ms !== null) times.push(request.ms);
    if (known.source === "emulator" && request.ok === false && request.meaning) add(reasons, `${request.answer} · ${request.meaning}`, 1);
  }
  const none = events.length ? word("outcomesOf", received, events.length) : known.source === "emulator" ? word("noReports", "METRIC_FORWARDER_PAGE") : word("noReportsServe");
  counts(get("outcomes").querySelector("ul"), [["", none, "soft"], ...byCount(outcomes).map(([name, count]) => [count, named("outcomeNames", name), OUTCOME_CLASS[name] ?? "bad"])]);
  counts(get("answers").querySelector("ul"), byCount(answers).map(([key, count]) => { const [text, ok] = JSON.parse(key); return [count, text, ok ? "good" : "bad"]; }));
  counts(get("reasons").querySelector("ul"), byCount(reasons).slice(0, REASONS).map(([text, count]) => [count, text, "bad"]));
  times.sort((a, b) => a - b);
  const at = (share) => short(Number(times[Math.min(times.length - 1, Math.floor(times.length * share))].toPrecision(3)));
  setText(get("answers").querySelector("p"), times.length ? word("latency", at(0.5), at(0.95), at(1)) : "");
}

function answerText(request) {
  if (request.answer === null) return word("waiting");
  const answer = request.answer === "no reply" ? word("noReply") : request.answer;
  return request.meaning ? `${answer}: ${request.meaning}` : answer;
}

const EVENT_COLUMNS = [["time"], ["trigger"], ["status"], ["received", "number"], ["outcomes"], ["answers"], ["ms", "number"], ["reason"]];
const REQUEST_COLUMNS = [["time"], ["answer"], ["points", "number"], ["ms", "number"]];
// What only the receiver knows of a request.
const RECEIVER_COLUMNS = [["namespace"], ["bytes", "number"], ["fault"]];

function showTable(name, columns, rows) {
  const table = get(name), body = table.tBodies[0];
  table.tHead.rows[0].replaceChildren(...columns.map(([column, style]) => Object.assign(element("th", style ?? "", named("columns", column)), { scope: "col" })));
  while (body.rows.length > rows.length) body.lastElementChild.remove();
  rows.forEach((cells, place) => {
    const row = body.rows[place] ?? body.insertRow();
    cells.forEach((text, column) => {
      const cell = row.cells[column] ?? row.insertCell();
      cell.className = columns[column][1] ?? "";
      setText(cell, String(text ?? ""));
    });
  });
  table.parentNode.hidden = rows.length === 0;
  get(`no-${name}`).hidden = rows.length !== 0;
}

function showEvents() {
  const rows = reports.slice(-ROWS).reverse().map((event) => [
    clock(event.at), event.trigger, named("statusNames", event.status), event.received,
    Object.entries(event.outcomes).filter(([, count]) => count).map(([name, count]) => `${count} ${named("outcomeNames", name)}`).join(", "),
    Object.entries(event.returnCodes).map(([label, count]) => `${label} × ${count}`).join(", "), event.durationMs,
    event.errors[0]?.message ?? event.filtered[0]?.message,
  ]);
  showTable("events", EVENT_COLUMNS, rows);
  setText(get("no-events"), known.source === "emulator" ? word("noReports", "METRIC_FORWARDER_PAGE") : word("noReportsServe"));
  const isReceiver = known.source === "emulator";
  showTable("requests", isReceiver ? [...REQUEST_COLUMNS, ...RECEIVER_COLUMNS] : REQUEST_COLUMNS, [...requests.values()].slice(-ROWS).reverse().map((request) => {
    const ms = request.ms === null ? "" : short(Number(request.ms.toPrecision(3)));
    const row = [clock(request.at), answerText(request), request.points, ms];
    return isReceiver ? [...row, request.namespace, request.bytes, request.fault] : row;
  }));
}

function isBeingSelected() {
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed && document.querySelector("main").contains(selection.anchorNode);
}

function showState() {
  const name = isLost ? "lost" : !isLoaded ? "loading" : isPaused ? "paused" : isBeingSelected() ? "selected" : "live";
  get("state").className = isLost ? "bad" : "";
  setText(get("state"), word(name));
}

function show() {
  showState();
  if (!isLoaded || isPaused || isBeingSelected()) return;
  const isEmpty = series.size === 0 && requests.size === 0 && reports.length === 0;
  get("empty").hidden = !isEmpty;
  get("full").hidden = false;
  get("full").classList.toggle("empty", isEmpty);
  get("clear").hidden = known.source !== "emulator" || isEmpty;
  setText(get("commands"), known.commands.join("\n"));
  document.title = word0("pageTitle");
  setText(get("title"), document.title);
  const filter = filters();
  showNamespaces();
  showRate(filter);
  showFlow(filter);
  showSeries(filter);
  showEvents();
  showSwitches();
}

const word0 = (table) => named(table, known.source);

// --- switches of the emulator ---

function isPreset(fault, preset) {
  return fault.fault === preset.fault && (fault.value ?? null) === (preset.value ?? null) && fault.times === null && !fault.match && !fault.headers;
}

async function change(method, path, body) {
  setText(get("switch-error"), "");
  try {
    const reply = await fetch(path, { method, body: body === undefined ? undefined : JSON.stringify(body) });
    if (!reply.ok) {
      const { member, expected, error } = await reply.json();
      setText(get("switch-error"), word("notChanged", expected ? `${member}: ${expected}` : error));
    }
  } catch {
    setText(get("switch-error"), word("lost"));
  }
  await poll();
}

async function toggle(name, isOn) {
  if (isOn) return change("POST", "/-/faults", { ...PRESETS[name], times: null, rate: Number(get("share").value) });
  const numbers = known.faults.filter((fault) => isPreset(fault, PRESETS[name])).map((fault) => fault.number);
  for (const number of numbers) await change("DELETE", `/-/faults/${number}`);
}

function makeSwitches() {
  for (const name of Object.keys(PRESETS)) {
    const label = element("label"), box = element("input");
    box.type = "checkbox", box.role = "switch", box.dataset.preset = name;
    box.addEventListener("change", () => toggle(name, box.checked));
    label.append(box, element("span"));
    get("presets").append(label);
  }
  for (const name of ["maxRequestsPerSecond", "maxPointsPerRequest", "maxBodyBytes", "maxNameLength", "latencySeconds"]) {
    const label = element("label"), input = element("input");
    input.type = "number", input.min = "0", input.step = name === "latencySeconds" ? "0.1" : "1", input.name = name;
    const none = name === "latencySeconds" ? 0 : null;
    input.addEventListener("change", () => change("POST", "/-/limits", { [name]: input.value === "" ? none : Number(input.value) }));
    label.append(element("span"), input);
    get("limits").append(label);
  }
}

function showSwitches() {
  get("switches").hidden = known.source !== "emulator";
  for (const box of get("presets").querySelectorAll("input")) {
    box.checked = known.faults.some((fault) => isPreset(fault, PRESETS[box.dataset.preset]));
    setText(box.nextElementSibling, named("faultNames", box.dataset.preset));
  }
  for (const input of get("limits").querySelectorAll("input")) {
    setText(input.previousElementSibling, named("limitNames", input.name));
    const limit = known.limits[input.name];
    if (document.activeElement !== input) input.value = limit ? String(limit) : "";
  }
  const others = known.faults.filter((fault) => !Object.values(PRESETS).some((preset) => isPreset(fault, preset)));
  const list = get("faults"), shown = JSON.stringify([current(), others]);
  if (list.dataset.shown !== shown) {
    list.dataset.shown = shown;
    list.replaceChildren(...others.map(({ number, ...fault }) => {
      const row = element("li"), button = element("button", "", word("remove"));
      button.type = "button";
      button.addEventListener("click", () => change("DELETE", `/-/faults/${number}`));
      row.append(element("code", "", JSON.stringify(fault)), button);
      return row;
    }));
  }
  get("faults-on").hidden = known.faults.length === 0;
  setText(get("faults-on"), word("faultsOn", known.faults.length));
}

// --- the page's own parts ---

function translate() {
  document.documentElement.lang = current() === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-word]")) setText(node, word(node.dataset.word));
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", word(node.dataset.label));
  setText(get("language"), word("other"));
  get("language").lang = current() === "zh" ? "en" : "zh";
  setText(get("pause"), word(isPaused ? "resume" : "pause"));
  show();
}

function listen() {
  get("filters").addEventListener("submit", (event) => event.preventDefault());
  get("filters").addEventListener("input", () => { wanted = CARDS; show(); });
  get("more").addEventListener("click", () => { wanted += CARDS; show(); });
  get("language").addEventListener("click", () => { switchLanguage(); translate(); });
  get("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    get("pause").setAttribute("aria-pressed", String(isPaused));
    translate();
  });
  get("clear").addEventListener("click", () => change("DELETE", "/-/points"));
  get("copy").addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(get("commands").textContent); } catch { return; }
    setText(get("copy"), word("copied"));
  });
  document.addEventListener("selectionchange", show);
}

async function poll() {
  clearTimeout(timer);
  const own = ++pollNumber;
  try {
    const reply = await fetch(`/-/activity?run=${known.run}&after=${known.next}`, { cache: "no-store" });
    const news = await reply.json();
    // A later poll has begun meanwhile, and brings these changes too.
    if (own !== pollNumber) return;
    take(news);
    isLost = false, isLoaded = true;
  } catch {
    isLost = true;
  }
  if (own === pollNumber) timer = setTimeout(poll, POLL_MS);
  show();
}

const rate = new Plot((row) => `${clock(row[0])}  ${short(row[1])}/s ${word("deliveredShort")}, ${short(row[3])}/s ${word("otherShort")}`);
const rateText = element("p", "soft");
get("rate").append(rateText, rate.root);
makeSwitches();
listen();
translate();
poll();
