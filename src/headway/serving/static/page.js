// The page of a served bundle. Every text from outside (class names, file names) becomes textContent, never HTML.
import { inBytes, listed, make, name, percent, plural, round1, shown } from "./words.js";
import { drawWhy } from "./why.js";

(() => {
  const SIDE_BY_SIDE = 4; // requests at a time: the server batches them
  const PATIENCE = 60_000; // milliseconds until a request is given up; the server's own deadlines are shorter
  const MOST_NAMED = 8; // classes of a set that are named
  let kinds = "JPEG, PNG, WebP, GIF, BMP or TIFF";
  const at = (id) => document.getElementById(id);
  let limits = { max_body: Infinity, max_pixels: Infinity, max_images: 64 };
  let coverage = 0.95; // of the sets in answers
  let explains = null; // how the server explains answers: {method, tap, by_class}
  let introduced = false; // the server has said what the model is
  let round = null; // the images that are being asked about: {tasks, stop}

  // Words

  function setInWords(labels) {
    const rest = labels.length - MOST_NAMED;
    const named = labels.slice(0, MOST_NAMED).map(shown);
    if (rest > 0) named.push(`${rest} more`);
    return `With ${round1(coverage * 100)} % coverage: ${listed(named)}`;
  }

  function excuse(code) {
    const words = {
      not_an_image: `This is not an image. It must be ${kinds}.`,
      damaged_image: "This image is damaged: it cannot be decoded.",
      too_many_pixels: `This image has too many pixels; at most ${round1(limits.max_pixels / 1e6)} megapixels are read.`,
      too_large: `This file is too large; at most ${inBytes(limits.max_body)} are taken.`,
      empty: "This file is empty.",
      unreadable: "This cannot be read here. If it is a folder, open it and drop the images in it.",
      busy: "The server is busy.",
      late: "The server did not get to it in time.",
      too_slow: "The image took too long to arrive.",
      stopping: "The server is stopping.",
      no_token: "The server asks for a token.",
      gone: "The server does not answer. It may have stopped, or the connection is down.",
    };
    return words[code] ?? "The server could not answer this.";
  }
  const FINAL = new Set(["not_an_image", "damaged_image", "too_many_pixels", "too_large", "empty", "unreadable", "broken"]);

  // Elements

  const noPreview = () => make("div", "picture nothing", "no preview");

  function drawPicture(file) {
    if (file.size > limits.max_body) return noPreview();
    const picture = make("img", "picture");
    picture.alt = "";
    picture.decoding = "async";
    picture.src = URL.createObjectURL(file);
    picture.onload = () => URL.revokeObjectURL(picture.src);
    picture.onerror = () => {
      URL.revokeObjectURL(picture.src);
      picture.replaceWith(noPreview());
    };
    return picture;
  }

  function drawBars(top) {
    const bars = make("ul", "bars");
    for (const { label, probability } of top) {
      const row = make("li");
      const track = make("div", "track");
      const bar = make("div", "bar");
      bar.style.width = `${100 * probability}%`;
      track.append(bar);
      row.append(name(label), make("span", "share", percent(probability)), track);
      bars.append(row);
    }
    return bars;
  }

  function drawAnswer(task) {
    const { label, probability, top, set, unknown } = task.answer;
    const parts = [];
    const said = [name(label), `, ${percent(probability)}`];
    if (unknown?.flag) {
      const best = make("p", "best", "If it had to choose: ");
      best.append(...said);
      parts.push(make("h2", "flag", "Not like anything it was trained on"), best);
    } else {
      const headline = make("h2");
      headline.append(...said);
      parts.push(headline);
    }
    parts.push(drawBars(top.slice(0, 5)));
    // What a set promises holds for images like those that it was calibrated on.
    if (set && !unknown?.flag) parts.push(make("p", "set", setInWords(set)));
    if (explains) parts.push(...drawWhy(task, explanation));
    return parts;
  }

  function drawFailure(task) {
    const parts = [make("h2", "bad", task.message ?? excuse(task.code))];
    if (!FINAL.has(task.code)) {
      const button = make("button", "", "Try again");
      button.type = "button";
      button.setAttribute("aria-label", `Try again: ${shown(task.file.name)}`);
      button.onclick = () => ask([task]);
      parts.push(button);
    }
    return parts;
  }

  function draw(task) {
    const drawn = { asked: () => [make("h2", "", "Looking …")], done: drawAnswer, failed: drawFailure };
    task.said.replaceChildren(make("p", "file", shown(task.file.name)), ...drawn[task.state](task));
  }

  // Asking

  function headers() {
    const token = sessionStorage.getItem("token");
    return token ? { Authorization: `Bearer ${token}` } : {};
  }

  // A page that holds its bundle (headway export --to browser) answers itself.
  const call = globalThis.headway?.call ?? askServer;

  async function askServer(path, options, stop) {
    const signal = AbortSignal.any([AbortSignal.timeout(PATIENCE), ...(stop ? [stop] : [])]);
    let response, content;
    try {
      response = await fetch(path, { ...options, cache: "no-store", credentials: "same-origin", signal });
      content = await response.json().catch(() => null); // a proxy answers in HTML
    } catch {
      return { code: stop?.aborted ? "left" : "gone" };
    }
    if (response.ok && content) return { content };
    const by = { 401: "no_token", 408: "too_slow", 413: "too_large", 502: "gone", 503: "busy", 504: "late" };
    return { code: content?.error?.code ?? by[response.status] ?? "failed" };
  }

  /** The type that the browser guesses is not sent: the server goes by content. */
  function post(path, file, stop) {
    const sent = { ...headers(), "Content-Type": "application/octet-stream" };
    return call(path, { method: "POST", body: file, headers: sent }, stop);
  }

  async function explanation(file) {
    const got = await post("explain", file, round?.stop.signal);
    return got.content?.explanation ?? { refused: excuse(got.code) };
  }

  async function refusal(file) {
    if (file.size > limits.max_body) {
      const sizes = `This file has ${inBytes(file.size)}; at most ${inBytes(limits.max_body)} are taken.`;
      return { code: "too_large", message: `${sizes} It was not sent.` };
    }
    try {
      await file.slice(0, 1).arrayBuffer();
    } catch {
      return { code: "unreadable" };
    }
    return file.size === 0 ? { code: "empty" } : null;
  }

  async function answer(task, stop) {
    Object.assign(task, { state: "asked", code: undefined, message: undefined });
    draw(task);
    const refused = await refusal(task.file);
    const got = refused ?? (await post("predict", task.file, stop));
    if (got.code === "left") return;
    const found = got.content?.predictions?.[0];
    const code = got.code ?? found?.error?.code ?? "failed";
    if (found && !found.error) Object.assign(task, { state: "done", answer: found });
    else Object.assign(task, { state: "failed", code, message: got.message });
    if (task.code === "no_token") askForToken();
    draw(task);
  }

  async function ask(tasks) {
    const mine = round;
    const waiting = [...tasks];
    const work = async () => {
      while (waiting.length && !mine.stop.signal.aborted) await answer(waiting.shift(), mine.stop.signal);
    };
    mine.running += 1;
    tell(mine);
    await Promise.all(Array.from({ length: SIDE_BY_SIDE }, work));
    mine.running -= 1;
    tell(mine);
    if (mine === round) at("answers").scrollIntoView({ block: "nearest" });
  }

  /** Tell in one line how far it is, for eyes where there are several images, for screen readers always. */
  function tell(mine) {
    if (mine !== round) return;
    const { tasks } = mine;
    document.body.classList.toggle("busy", mine.running > 0);
    at("status").className = tasks.length > 1 ? "" : "unseen";
    const failed = tasks.filter((task) => task.state === "failed");
    const retryable = failed.filter((task) => !FINAL.has(task.code));
    at("again").hidden = mine.running > 0 || retryable.length < 2;
    at("again").firstElementChild.textContent = `Try the ${retryable.length} again that failed`;
    at("again").firstElementChild.onclick = () => ask(retryable);
    if (mine.running > 0) at("status").textContent = `Looking at ${plural(tasks.length, "image")} …`;
    else at("status").textContent = tasks.length > 1 ? summary(tasks, failed.length) : inOneLine(tasks[0]);
  }

  const inOneLine = ({ file, said }) => `${shown(file.name)}: ${said.querySelector("h2").textContent}`;

  function summary(tasks, failed) {
    const counts = new Map();
    for (const { state, answer } of tasks) {
      if (state !== "done") continue;
      const key = answer.unknown?.flag ? "not like anything it was trained on" : answer.label;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    const most = [...counts].sort((a, b) => b[1] - a[1]);
    const named = most.slice(0, MOST_NAMED).map(([label, n]) => `${n} ${shown(label)}`);
    if (most.length > MOST_NAMED) named.push(`${plural(most.length - MOST_NAMED, "other class")}`);
    if (failed) named.push(`${failed} without an answer`);
    return `${plural(tasks.length, "image")}: ${named.join(", ")}`;
  }

  function take(files) {
    const chosen = [...files];
    if (chosen.length === 0) return;
    const most = limits.max_images;
    const tooMany = `${chosen.length} files are too many at once. These are the first ${most}.`;
    at("notice").textContent = chosen.length > most ? tooMany : "";
    if (!introduced) introduce();
    round?.stop.abort();
    const tasks = chosen.slice(0, most).map((file) => ({ file, said: make("div", "said") }));
    round = { tasks, stop: new AbortController(), running: 0 };
    const items = tasks.map((task) => {
      const item = make("li");
      item.append(drawPicture(task.file), task.said);
      return item;
    });
    at("answers").className = tasks.length === 1 ? "one" : "";
    at("answers").replaceChildren(...items);
    ask(tasks);
  }

  // Ways in: the field, dropping, pasting, the camera

  function listenToFiles() {
    for (const input of [at("images"), at("photo")]) {
      input.addEventListener("change", () => {
        take(input.files);
        input.value = ""; // the same file again is a change again
      });
    }
    let depth = 0; // dragenter of a child comes before dragleave of its parent
    const over = (change) => {
      depth = Math.max(0, depth + change);
      document.body.classList.toggle("over", depth > 0);
    };
    addEventListener("dragenter", () => over(1));
    addEventListener("dragleave", () => over(-1));
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      over(-depth);
      receive(event.dataTransfer, "What was dropped holds no file. Save the image first, then drop it.");
    });
    addEventListener("paste", (event) => {
      if (event.target === at("secret")) return;
      receive(event.clipboardData, "What was pasted is not an image. Copy an image, then paste.");
    });
  }

  function receive(transfer, otherwise) {
    if (transfer.files.length) take(transfer.files);
    else at("notice").textContent = otherwise;
  }

  function listenToCamera() {
    const touch = matchMedia("(pointer: coarse)").matches; // the phone's own camera does it better
    at("camera").hidden = !touch && !navigator.mediaDevices?.getUserMedia;
    at("camera").firstElementChild.onclick = () => (touch ? at("photo").click() : openCamera());
    at("close").onclick = () => at("viewer").close();
    at("take").onclick = capture;
    const video = at("viewer").querySelector("video");
    at("viewer").addEventListener("close", () => {
      for (const track of video.srcObject?.getTracks() ?? []) track.stop();
      video.srcObject = null;
      at("take").disabled = true;
    });
  }

  async function openCamera() {
    const viewer = at("viewer");
    const video = viewer.querySelector("video");
    at("notice").textContent = "";
    viewer.showModal();
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      video.srcObject = stream;
      if (!viewer.open) return viewer.dispatchEvent(new Event("close")); // closed while the browser asked
      await video.play();
      at("take").disabled = false;
      at("take").focus();
    } catch (error) {
      if (!viewer.open) return;
      viewer.close();
      const denied = error.name === "NotAllowedError";
      at("notice").textContent = denied
        ? "The browser does not let this page use the camera. Allow it in the browser's settings for this page."
        : "No camera could be opened.";
    }
  }

  function capture() {
    const video = at("viewer").querySelector("video");
    const canvas = make("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    at("viewer").close();
    canvas.toBlob((blob) => take([new File([blob], "camera.png", { type: "image/png" })]), "image/png");
  }

  // What the model is

  function askForToken() {
    at("token").hidden = false;
    document.body.classList.add("closed");
    at("secret").focus();
  }

  async function introduce() {
    const { content, code } = await call("model", { headers: headers() });
    if (content) return describe(content);
    if (code === "no_token") {
      at("refused").textContent = sessionStorage.getItem("token") ? "The server does not take this token." : "";
      sessionStorage.removeItem("token");
      return askForToken();
    }
    at("notice").textContent = excuse(code);
  }

  function describe(model) {
    const { name: title, classes, accuracy } = model;
    introduced = true;
    limits = { ...limits, ...model.limits };
    coverage = model.promises?.coverage?.default ?? coverage;
    explains = model.explains ?? null;
    kinds = listed(model.limits.types ?? []) || kinds;
    at("token").hidden = true;
    document.body.classList.remove("closed");
    document.title = `${shown(title)}: headway`;
    at("name").replaceChildren(name(title));
    at("version").textContent = `version ${model.version}`;
    const question = `${listed(classes.map(shown))}?`;
    const short = question.length <= 60;
    at("question").textContent = short ? question : `Which of ${plural(classes.length, "class")}?`;
    at("classes").hidden = short;
    at("classes").querySelector("summary").textContent = "Their names";
    at("classes").querySelector("p").textContent = classes.map(shown).join(", ");
    at("about").textContent = `${model.backbone}, ${measured(accuracy)}`;
    const sizes = [`up to ${inBytes(limits.max_body)}`, `${round1(limits.max_pixels / 1e6)} megapixels`];
    at("limits").textContent = `${kinds}, ${sizes.join(" and ")} each, ${limits.max_images} at a time`;
  }

  function measured(accuracy) {
    if (!accuracy) return "not measured on test images";
    const right = Math.round(accuracy.value * accuracy.n);
    const bounds = accuracy.interval ? ` [${accuracy.interval.map((value) => value.toFixed(3)).join(", ")}]` : "";
    const share = `${accuracy.value.toFixed(3)}${bounds}`;
    return `right on ${right.toLocaleString("en")} of ${plural(accuracy.n, "test image")}: ${share}`;
  }

  function listenToToken() {
    at("token").addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem("token", at("secret").value);
      at("secret").value = "";
      introduce();
    });
  }

  document.documentElement.classList.add("js");
  for (const element of document.querySelectorAll(".scripted")) element.hidden = false;
  at("form").addEventListener("submit", (event) => event.preventDefault());
  listenToFiles();
  listenToCamera();
  listenToToken();
  introduce();
})();
