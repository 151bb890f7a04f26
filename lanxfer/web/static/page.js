"use strict";
// The page of lanxfer (docs/web.rst).  Text of others only ever becomes a text node.

const $ = (id) => document.getElementById(id);
const AT_ONCE = 2;              // uploads that move at the same time; the others wait their turn
const TUS = { "Tus-Resumable": "1.0.0" };
const RETRY = [500, 1000, 2000, 4000, 8000];
let token = "";
let events = null;

// Words and numbers.

const UNITS = ["B", "kB", "MB", "GB", "TB"];
function size(bytes) {
  let unit = 0;
  while (bytes >= 999.5 && unit < UNITS.length - 1) { bytes /= 1000; unit += 1; }
  return `${unit && bytes < 99.5 ? bytes.toFixed(1) : Math.round(bytes)} ${UNITS[unit]}`;
}
function time(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s left`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min left`;
  return `${Math.round(seconds / 3600)} h left`;
}
function make(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}
function toast(text) {
  const box = $("toast");
  box.textContent = text;
  box.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { box.hidden = true; }, 6000);
}

// Asking the device.

class Refused extends Error {
  constructor(status, answer) {
    super(answer.reason || "The device did not answer as expected.");
    this.status = status;
    this.code = answer.code || "";
  }
}
async function ask(method, url, { json, headers = {}, signal } = {}) {
  const all = { ...headers };
  if (token) all["X-Lanxfer-Token"] = token;
  const options = { method, headers: all, credentials: "same-origin", cache: "no-store", signal };
  if (json !== undefined) {
    all["Content-Type"] = "application/json";
    options.body = JSON.stringify(json);
  }
  const answer = await fetch(url, options);
  if (!answer.ok) {
    let said = {};
    try { said = await answer.json(); } catch { /* no words */ }
    if (answer.status === 401 && url !== "/login") signedOut();
    throw new Refused(answer.status, said);
  }
  return answer;
}
async function order(name, args) {
  try {
    return await ask("POST", `/api/do/${name}`, { json: args });
  } catch (error) {
    toast(error instanceof Refused ? error.message : "The device cannot be reached just now.");
    return null;
  }
}

// Signing in and out.

function codeIn(text) {
  const at = text.indexOf("#");
  return (at < 0 ? text : text.slice(at + 1)).trim();
}
async function signIn(code) {
  $("sign-in-error").hidden = true;
  try {
    begin(await (await ask("POST", "/login", { json: { code } })).json());
  } catch (error) {
    showSignIn(error instanceof Refused ? error.message : "The device cannot be reached just now.");
  }
}
function showSignIn(why = "") {
  $("page").hidden = true;
  $("sign-in").hidden = false;
  $("sign-in-error").textContent = why;
  $("sign-in-error").hidden = !why;
  $("code").focus();
}
function signedOut() {
  if (events) events.close();
  events = null;
  token = "";
  for (const each of uploads.values()) each.stop();
  uploads.clear();
  rows.clear();
  for (const id of ["transfers", "messages", "prompts", "rows", "crumbs"]) $(id).replaceChildren();
  drawn.clear();
  showSignIn();
}
function begin(about) {
  token = about.token;
  $("device").textContent = about.device;
  document.title = about.device;
  $("sign-in").hidden = true;
  $("page").hidden = false;
  $("code").value = "";
  guest = about.guest;
  follow();
  if (!guest) openFolder("");
}
let guest = false;

async function start() {
  const code = codeIn(location.hash);
  if (location.hash) history.replaceState(null, "", location.pathname);
  if (code) { await signIn(code); return; }
  try {
    begin(await (await ask("GET", "/api/session")).json());
  } catch (error) {
    if (!(error instanceof Refused)) showSignIn("The device cannot be reached just now.");
  }
}
window.addEventListener("hashchange", () => { if (codeIn(location.hash)) start(); });
$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(codeIn($("code").value));
});
$("sign-out").addEventListener("click", async () => {
  try { await ask("POST", "/logout", { json: {} }); } finally { signedOut(); }
});

// What the device tells.

const rows = new Map();        // id of a transfer, or tag of an upload of ours, to its row
function follow() {
  if (events) events.close();
  events = new EventSource("/api/events");
  events.addEventListener("begin", (event) => {
    token = JSON.parse(event.data).token;
    status("Connected", false);
  });
  events.addEventListener("transfer", (event) => heard(JSON.parse(event.data)));
  events.addEventListener("prompts", (event) => drawPrompts(JSON.parse(event.data)));
  events.addEventListener("message", (event) => drawMessage(JSON.parse(event.data)));
  events.onerror = () => {
    status("Reconnecting…", true);
    if (events && events.readyState === EventSource.CLOSED) {
      ask("GET", "/api/session").then(follow, () => setTimeout(() => token && follow(), 2000));
    }
  };
}
function status(text, lost) {
  $("status").textContent = text;
  $("status").className = lost ? "lost" : "";
}
function heard(row) {
  if (row.kind === "message") return;
  const key = row.own && row.request ? row.request : row.id;
  const before = rows.get(key);
  if (before && before.id !== row.id && before.started_ms > row.started_ms) return;
  rows.set(key, row);
  const upload = uploads.get(key);
  if (upload) upload.heard(row);
  draw(key);
}

// Rates: bytes a second over the last few seconds, so that the time left does not jump about.

class Pace {
  constructor() { this.marks = []; }
  rate(done) {
    const now = performance.now() / 1000;
    if (this.marks.length && done < this.marks.at(-1)[1]) this.marks = [];
    const last = this.marks.at(-1);
    if (!last || now - last[0] > 0.2) this.marks.push([now, done]);
    while (this.marks.length > 2 && now - this.marks[0][0] > 5) this.marks.shift();
    const [at, from] = this.marks[0];
    return now - at > 0.4 ? (done - from) / (now - at) : 0;
  }
}

// The list of transfers.

const drawn = new Map();
const cleared = new Set();
const FINISHED = new Set(["done", "failed", "cancelled"]);
const WORDS = {
  queued: "Waiting its turn", offered: "Offered", waiting: "Waiting for a yes", accepted: "Starting",
  moving: "", paused: "Paused", committing: "Saving", done: "Received", failed: "Failed",
  cancelled: "Cancelled", interrupted: "Interrupted",
};
function facts(key) {
  const row = rows.get(key);
  const upload = uploads.get(key);
  const found = row ? { ...row } : { direction: "in", own: true, who: "this browser", reason: "" };
  if (upload) {
    Object.assign(found, { path: upload.path, size: upload.file.size, state: upload.state, reason: upload.reason, local: true });
    // What the device has counts, not what the browser has put into its own buffers.
    found.done = upload.state === "done" ? upload.file.size : row ? row.done : 0;
    if (upload.stored) found.stored = upload.stored;
  }
  return found;
}
function draw(key) {
  const found = facts(key);
  if (!found.state || cleared.has(key)) return;
  if (found.state === "waiting" && !found.own && !guest) return;   // it is asked about above
  let item = drawn.get(key);
  if (!item) {
    item = $("transfer-template").content.firstElementChild.cloneNode(true);
    item.pace = new Pace();
    item.querySelector(".pause").addEventListener("click", () => pause(key));
    item.querySelector(".cancel").addEventListener("click", () => cancel(key));
    drawn.set(key, item);
    $("transfers").prepend(item);
  }
  const over = FINISHED.has(found.state);
  const rate = item.pace.rate(found.done || 0);
  const share = found.size ? (found.done || 0) / found.size : found.state === "done" ? 1 : 0;
  const moving = found.state === "moving";
  item.className = `item ${found.state}`;
  item.querySelector(".name").textContent = found.path;
  const word = found.state === "done" && found.direction === "out" ? "Sent" : WORDS[found.state];
  item.querySelector(".state").textContent = moving ? `${Math.floor(share * 100)} %` : word;
  const bar = item.querySelector("progress");
  bar.hidden = over || found.kind === "folder";
  bar.value = share;
  bar.setAttribute("aria-label", `Progress of ${found.path}`);
  item.querySelector(".facts").textContent = about(found, rate, moving);
  const held = item.querySelector(".pause");
  held.hidden = !["moving", "paused"].includes(found.state);
  held.textContent = found.state === "paused" ? "Go on" : "Pause";
  const stop = item.querySelector(".cancel");
  stop.hidden = over || (found.state === "interrupted" && !uploads.has(key));
  held.setAttribute("aria-label", `${held.textContent}: ${found.path}`);
  stop.setAttribute("aria-label", `Cancel: ${found.path}`);
  $("no-transfers").hidden = drawn.size > 0;
  $("clear").hidden = ![...drawn.keys()].some((each) => FINISHED.has(facts(each).state));
}
function about(found, rate, moving) {
  const whom = found.own ? "" : `${found.direction === "in" ? "from" : "to"} ${found.who}`;
  const parts = [];
  if (moving || ["paused", "interrupted"].includes(found.state)) {
    parts.push(`${size(found.done || 0)} of ${size(found.size)}`);
    if (moving && rate > 0) parts.push(`${size(rate)}/s`, time((found.size - found.done) / rate));
  } else if (found.kind !== "folder") {
    parts.push(size(found.size));
  }
  if (found.state === "done" && found.stored && found.stored !== found.path) parts.push(`saved as ${found.stored}`);
  if (!found.secure && found.secure !== undefined) parts.push("unauthenticated");
  parts.unshift(whom);
  if (found.state === "interrupted" && found.own && !found.local) parts.push("choose the same file again to go on");
  else if (found.reason && ["failed", "interrupted"].includes(found.state)) parts.push(found.reason);
  return parts.filter(Boolean).join(" · ");
}
async function pause(key) {
  const row = rows.get(key);
  if (row) await order(row.state === "paused" ? "resume" : "pause", { id: row.id });
}
async function cancel(key) {
  const upload = uploads.get(key);
  if (upload) { await upload.cancel(); return; }
  const row = rows.get(key);
  if (row) await order("cancel_request", { id: row.id });
}
$("clear").addEventListener("click", () => {
  for (const [key, item] of [...drawn]) {
    if (!FINISHED.has(facts(key).state)) continue;
    item.remove();
    drawn.delete(key);
    cleared.add(key);
    uploads.delete(key);
  }
  $("no-transfers").hidden = drawn.size > 0;
  $("clear").hidden = true;
});

// Offers that wait.

function drawPrompts(prompts) {
  const list = $("prompts");
  const ids = prompts.map((each) => each.id).join(" ");
  $("waiting").hidden = prompts.length === 0;
  if (list.dataset.ids === ids + JSON.stringify(prompts)) return;
  list.dataset.ids = ids + JSON.stringify(prompts);
  list.replaceChildren(...prompts.map((prompt) => {
    const item = $("prompt-template").content.firstElementChild.cloneNode(true);
    item.querySelector(".who").textContent = prompt.label + (prompt.secure ? "" : " (unauthenticated)");
    item.querySelector(".what").textContent = prompt.what;
    const many = prompt.files > 1 ? `${prompt.files} files, ` : "";
    item.querySelector(".size").textContent = `(${many}${size(prompt.size)})`;
    item.querySelector(".accept").addEventListener("click", () => order("accept", { id: prompt.id }));
    item.querySelector(".reject").addEventListener("click", () => order("reject", { id: prompt.id }));
    return item;
  }));
}

// Messages.

const said = new Set();
function drawMessage(message) {
  if (said.has(message.id)) return;
  said.add(message.id);
  const at = new Date(message.at_ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const item = make("li", message.own ? "bubble own" : "bubble");
  const plain = message.secure ? "" : " (unauthenticated)";
  item.append(make("p", "from", `${message.own ? "You" : message.label + plain} · ${at}`), make("p", "said", message.text));
  $("messages").append(item);
  item.scrollIntoView({ block: "nearest" });
  $("no-messages").hidden = true;
}
$("message-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (!text.trim()) return;
  $("text").value = "";
  if (await order("recv_message", { text }) === null && !$("text").value) $("text").value = text;
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("message-form").requestSubmit();
});

// What is shared.

const MARKS = {
  folder: "M3 7a1 1 0 0 1 1-1h5l2 2h9a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1z",
  file: "M12 4v11M7.5 11 12 15.5 16.5 11M5 20h14",
};
function mark(kind) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("class", "mark");
  drawing.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", MARKS[kind] || MARKS.file);
  drawing.append(path);
  return drawing;
}
async function openFolder(path) {
  let found;
  try {
    found = await (await ask("GET", `/api/files?path=${encodeURIComponent(path)}`)).json();
  } catch (error) {
    if (path && error instanceof Refused) toast(error.message);
    return;
  }
  if (!path && !found.rows.length) return;
  $("shared").hidden = false;
  const parts = path ? path.split("/") : [];
  const crumbs = [crumb("All folders", "", !parts.length)];
  parts.forEach((part, at) => {
    crumbs.push(make("span", "", "/"), crumb(part, parts.slice(0, at + 1).join("/"), at === parts.length - 1));
  });
  $("crumbs").replaceChildren(...crumbs);
  const shown = found.rows.filter((row) => !row.unusable && ["file", "folder"].includes(row.kind));
  $("rows").replaceChildren(...shown.map((row) => entry(row, path ? `${path}/${row.name}` : row.name)));
  if (!shown.length) $("rows").append(make("li", "empty inside", "This folder is empty."));
}
function crumb(text, path, here) {
  const button = make("button", "", text);
  button.disabled = here;
  button.addEventListener("click", () => openFolder(path));
  return button;
}
function entry(row, path) {
  const button = make("button");
  button.append(mark(row.kind), make("span", "label", row.name));
  if (row.kind === "file") button.append(make("span", "size", size(row.size)));
  button.setAttribute("aria-label", `${row.kind === "file" ? "Download" : "Open"} ${row.name}`);
  button.addEventListener("click", () => (row.kind === "file" ? download(path) : openFolder(path)));
  const item = make("li");
  item.append(button);
  return item;
}
async function download(path) {
  try {
    const found = await (await ask("POST", "/api/get", { json: { path } })).json();
    const link = make("a");
    link.href = found.url;
    link.download = "";
    link.click();
  } catch (error) {
    toast(error instanceof Refused ? error.message : "The device cannot be reached just now.");
  }
}

// Sending files: tus, one request for all that is left of a file.

const uploads = new Map();     // tag to upload
const KEPT = "lanxfer-uploads";
function kept() {
  try { return JSON.parse(localStorage.getItem(KEPT) || "{}"); } catch { return {}; }
}
function keep(print, value) {
  const all = kept();
  for (const [key, each] of Object.entries(all)) if (each.until < Date.now()) delete all[key];
  if (value) all[print] = value; else delete all[print];
  try { localStorage.setItem(KEPT, JSON.stringify(all)); } catch { /* no storage, no resume later */ }
}
function newTag() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((each) => each.toString(16).padStart(2, "0")).join("");
}
function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

class Upload {
  constructor(file, path) {
    this.file = file;
    this.path = path;
    this.print = [path, file.size, file.lastModified].join("\n");
    const before = kept()[this.print];
    this.url = before ? before.url : "";
    this.tag = before ? before.tag : newTag();
    this.state = "queued";
    this.reason = "";
    this.stored = "";
    this.sent = 0;
    this.tries = 0;
    this.request = null;
    this.abort = new AbortController();
    this.timer = 0;
  }
  get over() { return FINISHED.has(this.state); }
  change(state, reason = "") {
    this.state = state;
    this.reason = reason;
    draw(this.tag);
    if (this.over) { keep(this.print, null); next(); }
  }
  heard(row) {
    if (this.over) return;
    if (["paused", "moving", "committing", "waiting"].includes(row.state)) {
      if (this.state !== "queued" && this.state !== "interrupted") this.change(row.state);
    } else if (row.state === "cancelled" || row.state === "failed") {
      this.stop();
      this.change(row.state, row.reason);
    }
  }
  async run() {
    this.change("accepted");
    try {
      if (this.url) await this.look();
      if (!this.url) await this.create();
      await this.send();
    } catch (error) {
      this.failed(error);
    }
  }
  async create() {
    const answer = await ask("POST", "/files", {
      headers: {
        ...TUS,
        "Upload-Length": String(this.file.size),
        "Upload-Metadata": `filename ${base64(this.path)},tag ${base64(this.tag)}`,
      },
      signal: this.abort.signal,
    });
    this.url = answer.headers.get("Location");
    this.sent = 0;
    const until = Date.parse(answer.headers.get("Upload-Expires") || "") || Date.now();
    keep(this.print, { url: this.url, tag: this.tag, until });
    if (answer.headers.get("Lanxfer-Stored")) this.finished(answer.headers.get("Lanxfer-Stored"));
  }
  async look() {
    try {
      const answer = await ask("HEAD", this.url, { headers: TUS, signal: this.abort.signal });
      this.sent = Number(answer.headers.get("Upload-Offset"));
      if (answer.headers.get("Lanxfer-Stored")) this.finished(answer.headers.get("Lanxfer-Stored"));
    } catch (error) {
      if (!(error instanceof Refused) || ![404, 410].includes(error.status)) throw error;
      this.url = "";           // too late for that one: begin anew
      this.tag = this.retag();
    }
  }
  retag() {
    uploads.delete(this.tag);
    const item = drawn.get(this.tag);
    if (item) { item.remove(); drawn.delete(this.tag); }
    cleared.add(this.tag);
    const tag = newTag();
    uploads.set(tag, this);
    return tag;
  }
  send() {
    if (this.over) return Promise.resolve();
    const from = this.sent;
    this.change("moving");
    return new Promise((done, failed) => {
      const request = new XMLHttpRequest();
      this.request = request;
      request.open("PATCH", this.url);
      request.setRequestHeader("Tus-Resumable", "1.0.0");
      request.setRequestHeader("Upload-Offset", String(from));
      request.setRequestHeader("Content-Type", "application/offset+octet-stream");
      request.setRequestHeader("X-Lanxfer-Token", token);
      request.upload.onprogress = (event) => {
        this.sent = from + event.loaded;
        this.tries = 0;
        draw(this.tag);
      };
      request.onload = () => {
        this.request = null;
        const stored = request.getResponseHeader("Lanxfer-Stored");
        if (stored) {
          this.finished(stored);
          done();
        } else if (request.status === 204) {
          failed(new TypeError("not stored"));   // looking again shows what is there
        } else {
          let answer = {};
          try { answer = JSON.parse(request.responseText); } catch { /* no words */ }
          failed(new Refused(request.status, answer));
        }
      };
      request.onerror = request.ontimeout = () => { this.request = null; failed(new TypeError("lost")); };
      request.onabort = () => { this.request = null; done(); };
      request.send(this.file.slice(from));
    });
  }
  finished(stored) {
    this.sent = this.file.size;
    this.stored = decodeURIComponent(stored);
    this.change("done");
  }
  failed(error) {
    if (this.over || this.abort.signal.aborted) return;
    const again = !(error instanceof Refused) || [408, 409, 423, 429, 503].includes(error.status);
    if (!again) {
      this.change(error.code === "cancelled" ? "cancelled" : "failed", error.message);
      return;
    }
    const wait = RETRY[Math.min(this.tries, RETRY.length - 1)];
    this.tries += 1;
    const told = error instanceof Refused && !["connection-lost", "bad-offset"].includes(error.code);
    this.change("interrupted", told ? error.message : "connection lost, trying again");
    this.timer = setTimeout(() => this.run(), wait);
  }
  again() {
    if (this.state !== "interrupted") return;
    clearTimeout(this.timer);
    this.tries = 0;
    this.run();
  }
  stop() {
    clearTimeout(this.timer);
    this.abort.abort();
    if (this.request) this.request.abort();
  }
  async cancel() {
    if (this.over) return;
    this.stop();
    this.change("cancelled");
    if (this.url) {
      try { await ask("DELETE", this.url, { headers: TUS }); } catch { /* it is given up there by itself */ }
    }
  }
}
function next() {
  const all = [...uploads.values()];
  let moving = all.filter((each) => !each.over && each.state !== "queued").length;
  for (const each of all) {
    if (moving >= AT_ONCE) break;
    if (each.state === "queued") { moving += 1; each.run(); }
  }
}
function sendFiles(files) {
  for (const [file, path] of files) {
    const upload = new Upload(file, path);
    const before = uploads.get(upload.tag);
    if (before && !before.over) continue;
    cleared.delete(upload.tag);
    uploads.set(upload.tag, upload);
    upload.change("queued");
  }
  next();
}
window.addEventListener("online", () => { for (const each of uploads.values()) each.again(); });
window.addEventListener("beforeunload", (event) => {
  if ([...uploads.values()].some((each) => !each.over)) event.preventDefault();
});

for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", () => {
    sendFiles([...$(input).files].map((file) => [file, file.webkitRelativePath || file.name]));
    $(input).value = "";
  });
}

// Drag and drop, folders too.

function carriesFiles(event) {
  return token && event.dataTransfer && [...event.dataTransfer.types].includes("Files");
}
let inside = 0;
window.addEventListener("dragenter", (event) => {
  if (!carriesFiles(event)) return;
  inside += 1;
  $("drop-cover").hidden = false;
});
window.addEventListener("dragleave", () => {
  inside = Math.max(0, inside - 1);
  if (!inside) $("drop-cover").hidden = true;
});
window.addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
window.addEventListener("drop", async (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  inside = 0;
  $("drop-cover").hidden = true;
  const entries = [...event.dataTransfer.items].map((each) => each.webkitGetAsEntry && each.webkitGetAsEntry());
  const files = [...event.dataTransfer.files].map((file) => [file, file.name]);
  if (entries.some((each) => each && each.isDirectory)) {
    const found = [];
    for (const each of entries) if (each) await walk(each, "", found);
    sendFiles(found);
  } else {
    sendFiles(files);
  }
});
async function walk(entry, above, found) {
  const path = above + entry.name;
  if (entry.isFile) {
    found.push([await new Promise((done, failed) => entry.file(done, failed)), path]);
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return;
    for (const each of some) await walk(each, `${path}/`, found);
  }
}

setInterval(() => {
  for (const key of drawn.keys()) if (facts(key).state === "moving") draw(key);
}, 1000);
start();
