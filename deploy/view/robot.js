for (const joint of document.querySelectorAll("figure.joint")) {
  const pictures = JSON.parse(joint.querySelector('script[type="application/json"]').textContent);
  const values = JSON.parse(joint.dataset.values);
  const image = joint.querySelector("img"), slider = joint.querySelector("input"), now = joint.querySelector(".now");
  slider.addEventListener("input", () => {
    const pose = Number(slider.value);
    image.src = pictures[pose];
    now.textContent = values[pose].toFixed(2) + " " + joint.dataset.unit;
    slider.setAttribute("aria-valuetext", now.textContent);
  });
}
