for (const section of document.querySelectorAll("section.episode")) {
  const data = JSON.parse(section.querySelector('script[type="application/json"]').textContent);
  const slider = section.querySelector("input"), button = section.querySelector("button");
  const now = section.querySelector(".now"), films = section.querySelectorAll("img.film");
  const tracks = [...section.querySelectorAll(".track")].map((track) => ({
    cursor: track.querySelector(".cursor"), values: track.querySelectorAll(".value"),
  }));
  const span = data.span;
  const show = () => {
    const row = Number(slider.value), x = 1000 * data.times[row] / span;
    now.textContent = data.times[row].toFixed(2) + " s";
    slider.setAttribute("aria-valuetext", now.textContent);
    films.forEach((film, i) => { film.src = data.films[i][Math.min(data.shown[row], data.films[i].length - 1)]; });
    tracks.forEach(({ cursor, values }, i) => {
      cursor.setAttribute("x1", x); cursor.setAttribute("x2", x);
      values.forEach((value, j) => {
        let at = row;
        while (at > 0 && data.curves[i][j][at] === null) at -= 1;
        const known = data.curves[i][j][at];
        value.textContent = known === null ? "" : String(known);
      });
    });
  };
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "▶"; };
  button.addEventListener("click", () => {
    if (timer) { stop(); return; }
    if (Number(slider.value) >= Number(slider.max)) slider.value = 0;
    const started = performance.now() / 1000 - data.times[Number(slider.value)];
    button.textContent = "❚❚";
    timer = setInterval(() => {
      const elapsed = performance.now() / 1000 - started;
      let row = Number(slider.value);
      while (row < data.times.length - 1 && data.times[row + 1] <= elapsed) row += 1;
      slider.value = row; show();
      if (row >= data.times.length - 1) stop();
    }, 40);
  });
  slider.addEventListener("input", () => { if (timer) stop(); show(); });
  show();
}
