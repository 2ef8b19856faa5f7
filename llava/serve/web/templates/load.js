() => {
  const answers = document.querySelector(".answers");
  Object.assign(answers, {tabIndex: -1, role: "region", ariaLabel: "Answers"});
  document.querySelectorAll("button.example img").forEach((image) => { image.alt = ""; });
}
