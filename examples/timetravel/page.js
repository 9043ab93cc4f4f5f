"use strict";
// The page holds a whole state every so many steps and the changes of each step; it makes the states between them.
const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const percent = (ms) => (data.length ? (100 * ms) / data.length : 0) + "%";
const hue = (lane) => (lane * 137.5 + 215) % 360; // the golden angle: neighbours differ

// make is an element with a text, which is never read as HTML.
function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// change applies one change, named by a JSON Pointer, and returns the state.
function change(state, { path, after }) {
  if (path === "") return after;
  const names = path.slice(1).split("/").map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
  const last = names.pop();
  const parent = names.reduce((value, name) => value[name], state);
  if (after !== undefined) parent[last] = structuredClone(after);
  else if (Array.isArray(parent)) parent.length = Math.min(parent.length, Number(last)); // a list loses its end
  else delete parent[last];
  return state;
}

// stateAt is the state after so many steps.
function stateAt(step) {
  const whole = Math.floor(step / data.apart);
  return (data.changes.slice(whole * data.apart, step)).reduce(
    (state, changes) => (changes || []).reduce(change, state), structuredClone(data.states[whole]));
}

// offset writes a time into the discussion as 04:07, or 1:04:07.
function offset(ms) {
  const s = Math.floor(Math.abs(ms) / 1000), two = (n) => String(n).padStart(2, "0");
  return (ms <= -1000 ? "-" : "") + (s >= 3600 ? Math.floor(s / 3600) + ":" : "") + two(Math.floor(s / 60) % 60) + ":" + two(s % 60);
}

// reveal scrolls a list to one of its elements, and leaves the page where it is.
function reveal(list, element) {
  if (element) list.scrollTop = element.offsetTop - (list.clientHeight - element.clientHeight) / 2;
}

const bars = [], bands = [];

function drawTimeline() {
  const lanes = data.lanes.map((name, i) => {
    const label = make("div", "name", name), lane = make("div", "lane");
    label.title = name;
    lane.style.setProperty("--hue", hue(i));
    get("names").append(label);
    get("lanes").append(lane);
    return lane;
  });
  data.events.forEach((event, i) => {
    if (event.lane < 0) return;
    const bar = make("div", "bar");
    bar.style.left = percent(event.began);
    bar.style.width = percent(event.lasted || 0);
    bar.title = data.lanes[event.lane] + ": " + event.text.slice(0, 120);
    bar.onclick = () => go(i + 1);
    lanes[event.lane].append(bar);
    bars[i] = bar;
  });
  data.bands.forEach((band, i) => {
    const button = make("button", "band");
    button.append(make("span", "", "Q" + (i + 1)), make("span", "", band.question));
    button.title = band.question;
    button.style.left = percent(band.from);
    button.style.width = percent(band.to - band.from);
    button.onclick = () => go(band.step);
    get("bands").append(button);
    bands.push(button);
  });
  const every = [5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200].find((s) => data.length / 1000 / s <= 6) || 14400;
  for (let s = 0; s * 1000 < data.length * 0.97; s += every) {
    const tick = make("span", "", offset(s * 1000));
    tick.style.left = percent(s * 1000);
    get("axis").append(tick);
  }
}

function showTurn(event, step) {
  get("speaker").textContent = event.lane < 0 ? "The discussion" : data.lanes[event.lane];
  get("dot").style.setProperty("--hue", hue(Math.max(0, event.lane)));
  get("dot").hidden = event.lane < 0;
  get("type").textContent = event.type.replaceAll("_", " ");
  get("question").textContent = event.question || "";
  get("question").hidden = !event.question;
  get("text").textContent = event.text;
  get("where").textContent = `${step} of ${data.events.length} · +${offset(event.at)} of ${offset(data.length)}`;
  get("slider").setAttribute("aria-valuetext", `${step}, ${get("speaker").textContent}, ${offset(event.at)}`);
}

function showState(state, { lane, question }) {
  const asked = (state.questions || []).filter((q) => q.asked_in);
  get("status").textContent = state.status + (state.end_reason ? ": " + state.end_reason : "");
  get("totals").textContent = `${state.responses} responses, ${state.followups} followups, ` +
    `${asked.length} of ${(state.questions || []).length} questions asked`;
  const rows = (state.participants || []).map((p, i) => {
    const row = make("tr", i === lane ? "now" : p.turns ? "" : "quiet");
    const share = make("td", "share", offset(p.spoken_seconds * 1000));
    share.style.setProperty("--share", (state.spoken_seconds ? (100 * p.spoken_seconds) / state.spoken_seconds : 0) + "%");
    row.append(make("td", "", p.name), make("td", "", p.turns), make("td", "", p.words), share);
    return row;
  });
  get("participants").replaceChildren(...rows);
  get("questions").replaceChildren(...(state.questions || []).map((q) => {
    const item = make("li", q.text === question ? "now" : q.asked_in ? "" : "quiet", q.text);
    item.append(make("small", "", q.asked_in
      ? `answered by ${(q.answers || []).length}, ${q.followups} followups` : "not asked yet"));
    return item;
  }));
  reveal(get("questions"), get("questions").querySelector(".now"));
  reveal(get("speakers"), get("participants").querySelector(".now"));
  get("json").textContent = JSON.stringify(state, null, 2);
}

function showChanges(changes) {
  get("changes").replaceChildren(...(changes || []).map(({ path, before, after }) => {
    const item = make("li", "", path + " "), short = (value) => {
      const text = JSON.stringify(typeof value === "number" ? Number(value.toFixed(6)) : value);
      return text.length > 160 ? text.slice(0, 160) + "…" : text;
    };
    if (before !== undefined) item.append(make("del", "", short(before)));
    item.append(make("span", "", before === undefined ? "+ " : after === undefined ? " gone" : " → "));
    if (after !== undefined) item.append(make("ins", "", short(after)));
    return item;
  }));
}

let shown = 0;

function go(step) {
  step = Math.min(Math.max(1, step), data.events.length);
  const names = [...get("names").children], event = data.events[step - 1];
  const band = data.bands.findLastIndex((b) => b.step <= step && event.at <= b.to);
  bars[shown - 1]?.classList.remove("now");
  bars[step - 1]?.classList.add("now");
  bands.forEach((button, i) => button.classList.toggle("now", i === band));
  names.forEach((name, i) => name.classList.toggle("now", i === event.lane));
  reveal(get("timeline"), names[event.lane]);
  shown = step;
  get("slider").value = step;
  get("future").style.left = percent(event.at);
  showTurn(event, step);
  showState(stateAt(step), event);
  showChanges(data.changes[step - 1]);
}

drawTimeline();
get("slider").oninput = () => go(Number(get("slider").value));
get("back").onclick = () => go(shown - 1);
get("next").onclick = () => go(shown + 1);
document.onkeydown = (event) => { // on the slider itself the browser does this
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.target === get("slider") || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  go(shown + by);
};
go(1);
