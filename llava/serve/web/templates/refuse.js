const field = element.closest(".field");
const look = (event, files) => {
  if (!files?.length) return;
  const {type, size} = files[0];
  const kind = !size || !type.startsWith("image/") ? "kind" : size > MOST ? "size" : "";
  if (!kind) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  props.value = SAID[kind] + (field.querySelector(".seen")?.outerHTML ?? "");  // it stays
};
field.addEventListener("change", (event) => look(event, event.target.files), true);
field.addEventListener("drop", (event) => {
  look(event, event.dataTransfer?.files);
  if (event.defaultPrevented) event.target.dispatchEvent(new DragEvent("dragleave", {bubbles: true}));
}, true);
