"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const panel = JSON.parse(find("panel").textContent);
  const total = panel.order.length;
  const levels = [...document.querySelectorAll("[data-level]")];
  let rater = "";
  // For each position in turn: the level and the seconds it took.
  let answers = [];
  let at = 0;
  let chosen = 0;
  let since = 0;

  const slot = (name) => `cellforge-panel-${panel.panel}-${name}`;

  function recall(name) {
    try {
      return JSON.parse(localStorage.getItem(slot(name)));
    } catch {
      return null;
    }
  }

  function keep(name, value) {
    try {
      localStorage.setItem(slot(name), JSON.stringify(value));
    } catch {
      find("unsaved").hidden = false;
    }
  }

  const show = (section) => {
    for (const name of ["start", "ask", "end"]) find(name).hidden = name !== section;
  };

  function ask() {
    find("progress").value = answers.length;
    if (at >= total) {
      show("end");
      document.querySelector("#end h1").focus();
      return;
    }
    show("ask");
    const image = find("image");
    image.src = `data:image/png;base64,${panel.images[panel.order[at]]}`;
    image.alt = `Image ${at + 1} of ${total}`;
    find("count").textContent = `${at + 1} of ${total}`;
    find("back").disabled = at === 0;
    choose(answers[at] ? answers[at][0] : 0);
    fit();
    since = performance.now();
  }

  // The choice has the focus, so that Enter confirms it. Without a choice no button has it: Enter must not repeat the last answer.
  function choose(level) {
    chosen = level;
    for (const button of levels) button.setAttribute("aria-pressed", String(Number(button.dataset.level) === level));
    if (level > 0) levels[level - 1].focus();
    else if (document.activeElement) document.activeElement.blur();
  }

  function answer(level) {
    const before = answers[at] ? answers[at][1] : 0;
    answers[at] = [level, before + (performance.now() - since) / 1000];
    keep(rater, answers);
    at += 1;
    ask();
  }

  function back() {
    if (at > 0) {
      at -= 1;
      ask();
    }
  }

  // Whole multiples of the image's own size, so that every pixel is as large as any other.
  function fit() {
    const room = Math.min(window.innerWidth - 40, window.innerHeight * 0.6);
    const longer = Math.max(panel.width, panel.height);
    const times = longer > room ? room / longer : Math.floor(room / longer);
    find("image").style.width = `${panel.width * times}px`;
    find("image").style.height = `${panel.height * times}px`;
  }

  function scale() {
    const pixels = find("image").classList.toggle("pixels");
    find("scaling").textContent = pixels ? "Show smooth" : "Show pixels";
  }

  function csv() {
    const line = ([level, seconds], i) => [panel.panel, rater, panel.order[i], i + 1, level, seconds.toFixed(1)].join(",");
    return [panel.columns.join(","), ...answers.map(line)].join("\n") + "\n";
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = `panel-${rater}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  function begin(event) {
    event.preventDefault();
    const input = find("initials");
    rater = input.value.toUpperCase().replace(/[^\p{L}\p{N}]/gu, "");
    if (rater === "") {
      input.setCustomValidity("Give your initials: letters and digits.");
      input.reportValidity();
      return;
    }
    const kept = recall(rater);
    answers = Array.isArray(kept) ? kept.slice(0, total) : [];
    at = answers.length;
    keep("last rater", rater);
    ask();
  }

  function press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    const asking = !find("ask").hidden;
    if (event.key === "Backspace" && (asking || !find("end").hidden)) {
      event.preventDefault();
      back();
      return;
    }
    if (!asking) return;
    const level = Number(event.key);
    if (Number.isInteger(level) && level >= 1 && level <= levels.length) {
      event.preventDefault();
      answer(level);
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      const right = event.key === "ArrowRight";
      const half = levels.length / 2;
      const next = chosen === 0 ? (right ? half + 1 : half) : chosen + (right ? 1 : -1);
      choose(Math.min(Math.max(next, 1), levels.length));
    } else if (event.key.toLowerCase() === "s") {
      scale();
    }
  }

  find("begin").addEventListener("submit", begin);
  find("initials").addEventListener("input", () => find("initials").setCustomValidity(""));
  find("back").addEventListener("click", back);
  find("again").addEventListener("click", back);
  find("scaling").addEventListener("click", scale);
  for (const button of levels) button.addEventListener("click", () => answer(Number(button.dataset.level)));
  for (const button of document.querySelectorAll(".save")) button.addEventListener("click", save);
  document.addEventListener("keydown", press);
  window.addEventListener("resize", fit);
  find("initials").value = recall("last rater") || "";
  find("initials").focus();
})();
