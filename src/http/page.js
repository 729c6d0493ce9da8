"use strict";
// Asks the coordinator every other second and shows what it says. Everything that comes from outside is
// set as text and never as markup, but for the curves, which the coordinator draws itself.
(() => {
  const EVERY = 2000;
  const $ = id => document.getElementById(id);

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.filter(child => child !== null && child !== undefined).map(child =>
      child instanceof Node ? child : String(child)));
    return element;
  };
  const put = (id, ...children) => $(id).replaceChildren(...children);
  const show = (id, visible) => { $(id).hidden = !visible; };
  const percent = count => count.n ? `${(100 * count.correct / count.n).toFixed(1)}\u00a0%` : "–";
  const time = text => text ? text.replace("T", " ").replace("Z", " UTC") : "";
  const span = seconds => seconds < 90 ? `${Math.round(seconds)} s`
    : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;

  const ask = async (address, options) => {
    const response = await fetch(address, options);
    const body = await response.json().catch(() => ({}));
    if (!response.ok) throw Object.assign(new Error(body.error || response.statusText), { status: response.status });
    return body;
  };
  const token = () => ({ Authorization: `Bearer ${$("token").value}` });

  // What was drawn last, so that nothing is drawn anew that has not changed.
  const drawn = { curves: "", pictures: "" };
  let chosen = decodeURIComponent(location.hash.slice(1));
  let writable = false;

  const tile = (title, value, note) =>
    make("div", { class: "card" }, make("h3", {}, title), make("p", { class: "big" }, value),
      note ? make("p", { class: "note" }, note) : null);

  const cluster = found => {
    writable = found.writable;
    show("readonly", !writable);
    show("form", writable);
    const waiting = found.waiting ? Object.values(found.waiting).reduce((sum, n) => sum + n, 0) : "–";
    const idle = found.idle ?? "–";
    const dead = found.dead_letters ?? "–";
    put("tiles",
      tile("Workers busy", found.workers.length, `${idle} idle`),
      tile("Tasks waiting", waiting, "on the broker"),
      tile("Dead letters", dead, dead === 0 ? "none" : "see below"));
    put("who", `Hardy · coordinator ${found.coordinator}, ${found.leads ? "leads" : "stands by"}`);
    put("version", `Hardy ${found.version}`);
    put("workercount", found.workers.length === 0 ? `Nobody is at work; ${idle} wait for a task.`
      : `${found.workers.length} at work, ${idle} waiting for a task.`);
    put("workerlist", ...found.workers.map(w => make("tr", {}, make("th", { scope: "row" }, w.worker), make("td", {}, w.job))));
    put("deadcount", dead === "–" ? "The broker does not say how many there are."
      : dead === 0 ? "There are none." : dead === 1 ? "There is one on the broker." : `There are ${dead} on the broker.`);
    return found.trouble;
  };

  const place = job => {
    const stage = job.stage;
    if (job.state !== "running" || !stage) return [];
    const left = job.stage_seconds_left;
    return [`${stage.name}, ${stage.done} of ${stage.tasks}`, left === null ? "" : `, about ${span(left)} left`,
      make("progress", { max: stage.tasks, value: stage.done, "aria-label": `${stage.done} of ${stage.tasks} tasks` })];
  };

  const choose = job => {
    chosen = job;
    history.replaceState(null, "", `#${encodeURIComponent(job)}`);
    drawn.curves = drawn.pictures = "";
    put("answer");
    tick();
  };

  const list = found => {
    const jobs = found.jobs;
    put("count", found.total === 0 ? "No jobs yet." : found.total === 1 ? "One job."
      : `${found.total} jobs${found.total > jobs.length ? `, the newest ${jobs.length} of them` : ""}.`);
    const focused = document.activeElement && document.activeElement.dataset.job;
    put("jobs", ...jobs.map(job => {
      const button = make("button", { type: "button", "data-job": job.job }, job.job);
      const rate = job.state === "running" && job.images_per_second > 0 ? job.images_per_second.toFixed(1) : "";
      const row = make("tr", { "aria-current": job.job === chosen ? "true" : null },
        make("th", { scope: "row" }, button),
        make("td", {}, make("span", { class: `state ${job.state}` }, job.state)),
        make("td", { class: "stage" }, ...place(job)),
        make("td", { class: "number" }, rate),
        make("td", { class: "when" }, time(job.submitted)));
      row.addEventListener("click", () => choose(job.job));
      if (job.job === focused) queueMicrotask(() => button.focus());
      return row;
    }));
    const causes = jobs.flatMap(job => [
      ...(job.state === "failed" ? [[job.job, job.error || "unknown"]] : []),
      ...job.left_out.map(lost => [`${job.job}: ${lost.task}`, lost.why]),
    ]);
    show("failures", causes.length > 0);
    put("causes", ...causes.slice(0, 50).map(([what, why]) =>
      make("tr", {}, make("th", { scope: "row", class: "path" }, what), make("td", {}, why))));
    if (!jobs.some(job => job.job === chosen)) {
      const running = jobs.find(job => job.state === "running");
      chosen = (running || jobs[0] || { job: "" }).job;
    }
  };

  const act = async (what, job) => {
    put("answer", "…");
    try {
      await ask(`/api/jobs/${job}/${what}`, { method: "POST", headers: token() });
      put("answer", what === "cancel" ? "It will be cancelled." : "It is open again.");
    } catch (e) {
      put("answer", e.message);
    }
    tick();
  };

  const actions = job => {
    const parts = job.results.map(file => make("a", { href: `/jobs/${job.job}/${file}` }, file));
    const button = (text, what) => {
      const element = make("button", { type: "button" }, text);
      element.addEventListener("click", () => act(what, job.job));
      parts.push(element);
    };
    if (writable && (job.state === "running" || job.state === "waiting")) button("Cancel", "cancel");
    if (writable && (job.state === "failed" || job.state === "cancelled")) button("Retry", "retry");
    const before = $("actions").dataset.shown;
    const now = `${job.job} ${job.state} ${job.results.join()} ${writable}`;
    if (before !== now) {
      put("actions", ...parts);
      $("actions").dataset.shown = now;
    }
  };

  const summary = job => {
    const parts = [`It is ${job.state}`];
    const stage = job.stage;
    if (job.state === "running" && stage) {
      parts.push(`: ${stage.name}, ${stage.done} of ${stage.tasks} tasks, ${job.images_per_second.toFixed(1)} images/s`);
      if (job.stage_seconds_left !== null) parts.push(`, about ${span(job.stage_seconds_left)} left in this stage`);
    }
    parts.push(".");
    const last = job.rounds[job.rounds.length - 1];
    if (last) {
      parts.push(` Round ${last.round + 1} of ${last.phase === "train" ? "adversarial training" : "the undefended model"}: ` +
        `held images ${percent(last.held_clean)} clean, ${percent(last.held_pgd)} under PGD.`);
    }
    const night = job.night;
    if (night) parts.push(` Night ${night.night} of ${night.model}: ${night.outcome}. ${night.reason}.`);
    const lost = job.left_out.length;
    if (lost > 0) parts.push(` It went on without ${lost === 1 ? "a task" : `${lost} tasks`}, see the dead letters.`);
    if (job.failures > 0) parts.push(` ${job.failures} failed attempts so far; the last: ${job.last_failure}`);
    return parts.join("");
  };

  const curves = async job => {
    const key = `${job.job} ${job.rounds.length} ${job.guard.length}`;
    if (drawn.curves === key) return;
    const found = await ask(`/api/jobs/${job.job}/curves`);
    const titles = { baseline: "The undefended model", train: "Adversarial training" };
    const figures = Object.entries(found).map(([phase, svg]) => {
      const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
      return make("figure", {}, make("figcaption", {}, titles[phase] || phase), document.adoptNode(parsed));
    });
    show("training", figures.length > 0);
    put("curves", ...figures);
    put("guard", ...job.guard.map(event => make("li", {}, `Round ${event.round + 1}: ${event.what}`)));
    drawn.curves = key;
  };

  const picture = p => {
    const fooled = p.after !== null && p.after !== p.class;
    const verdict = p.after === null ? null
      : make("strong", { class: fooled ? "bad" : "good" }, fooled ? `✗ ${p.after}` : `✓ ${p.after}`);
    const image = (src, alt) => make("img", { src, alt });
    const after = image(p.adversarial, `${p.class} after the attack`);
    const images = p.original ? make("div", { class: "pair" }, image(p.original, `${p.class} before the attack`), after) : after;
    const how = [p.attack, p.epsilon && `ε ${p.epsilon}`].filter(Boolean).join(", ");
    return make("figure", { class: p.original ? "paired" : null }, images,
      make("figcaption", {}, p.class, verdict ? " → " : null, verdict, how ? make("br") : null, how || null));
  };

  const pictures = async job => {
    const key = `${job.job} ${job.pictures.map(p => p.blob.sha256).join()}`;
    if (drawn.pictures === key) return;
    const found = await ask(`/api/jobs/${job.job}/pictures`);
    show("gallery", found.pictures.length > 0);
    put("from", found.task ? `Made by the task ${found.task}.` : "");
    put("pictures", ...found.pictures.map(picture));
    drawn.pictures = key;
  };

  const detail = async () => {
    show("detail", chosen !== "");
    if (chosen === "") return;
    const job = await ask(`/api/jobs/${encodeURIComponent(chosen)}`);
    if (job.job !== chosen) return;
    put("job", job.job);
    put("summary", summary(job));
    show("error", job.error !== null);
    put("why", job.error ? job.error[1] : "");
    actions(job);
    const stages = [...job.stages].reverse();
    show("past", stages.length > 0);
    put("stagecount", `${job.stages_done} done${stages.length < job.stages_done ? `, the last ${stages.length} of them` : ""}.`);
    put("stages", ...stages.map(s => make("tr", {}, make("th", { scope: "row" }, s.name), make("td", { class: "number" }, s.tasks),
      make("td", { class: "number" }, s.images || ""), make("td", { class: "number" }, s.seconds.toFixed(1)))));
    await curves(job);
    await pictures(job);
  };

  const models = found => {
    const share = accuracy => accuracy === null ? "–" : `${(100 * accuracy).toFixed(1)}\u00a0%`;
    show("registry", found.length > 0);
    put("modellist", ...found.map(m => make("tr", {},
      make("th", { scope: "row" }, make("a", { href: `/models/${m.model}/history.html` }, m.model)),
      make("td", {}, m.current || "none"),
      make("td", { class: "number" }, share(m.clean)),
      make("td", { class: "number" }, share(m.robust)),
      make("td", {}, m.night ? `${m.night}: ` : "–", m.outcome ? make("span", { class: `state ${m.outcome}` }, m.outcome) : null),
      make("td", {}, m.reason || ""))));
  };

  const trouble = text => {
    put("trouble", text || "");
    show("trouble", Boolean(text));
  };

  let asking = false;
  const tick = async () => {
    if (asking) return;
    asking = true;
    let said = "";
    const missing = new Set();
    const parts = [
      async () => { said = cluster(await ask("/api/cluster")); },
      async () => list(await ask("/api/jobs")),
      detail,
      async () => models(await ask("/api/models")),
    ];
    // What one of them cannot have is no reason to be without the others.
    for (const part of parts) {
      await part().catch(e => missing.add(e.message));
    }
    trouble(missing.size > 0 ? `No news: ${[...missing].join("; ")}` : said);
    asking = false;
    document.documentElement.dataset.shown = "yes";
  };

  // `section.key = value` by line; a value is JSON or plain text.
  const assignments = text => {
    const values = {};
    for (const line of text.split("\n").map(l => l.trim()).filter(Boolean)) {
      const at = line.indexOf("=");
      if (at < 0) throw new Error(`${line}: expected section.key = value`);
      const value = line.slice(at + 1).trim();
      let parsed = value;
      try { parsed = JSON.parse(value); } catch { /* plain text */ }
      values[line.slice(0, at).trim()] = parsed;
    }
    return values;
  };

  document.addEventListener("DOMContentLoaded", () => {
    $("form").addEventListener("submit", async event => {
      event.preventDefault();
      put("said", "…");
      try {
        const wish = { job: $("name").value, data: $("data").value, settings: assignments($("settings").value) };
        const done = await ask("/api/jobs", { method: "POST", headers: token(), body: JSON.stringify(wish) });
        put("said", done.submitted ? `${done.job} is submitted.` : `${done.job} was submitted before.`);
        choose(done.job);
      } catch (e) {
        put("said", e.message);
      }
    });
    addEventListener("hashchange", () => choose(decodeURIComponent(location.hash.slice(1))));
    tick();
    setInterval(() => { if (!document.hidden) tick(); }, EVERY);
  });
})();
