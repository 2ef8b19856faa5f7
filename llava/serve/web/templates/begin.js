(...inputs) => {
  const answers = document.querySelector(".answers");
  document.querySelector("button.ask").setAttribute("aria-busy", "true");
  delete answers.dataset.old;
  const top = answers.getBoundingClientRect().top;
  if (top < 0 || top > 0.7 * window.innerHeight) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    answers.focus({preventScroll: true});
    answers.scrollIntoView({behavior: still ? "instant" : "smooth", block: "start"});
  }
  return inputs;
}
