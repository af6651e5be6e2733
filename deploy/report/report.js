if ("IntersectionObserver" in window && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
  const watch = new IntersectionObserver((entries) => entries.forEach(({ isIntersecting, target }) => {
    if (isIntersecting) target.play().catch(() => {}); else target.pause();
  }), { threshold: 0.4 });
  document.querySelectorAll("video").forEach((video) => watch.observe(video));
}
