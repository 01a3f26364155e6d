// What in an image speaks for its answer: a switch under the answer, and the picture with the heat.
import { make, name, shown } from "./words.js";

/** A switch between the image and what in it speaks for the answer. `ask(file)` is called when that is first wanted. */
export function drawWhy({ file, said }, ask) {
  const button = make("button", "why", "Show why");
  button.type = "button";
  button.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-label", `Show why: ${shown(file.name)}`);
  const told = make("p", "reason");
  told.setAttribute("aria-live", "polite");
  let plain, overlay;
  button.onclick = async () => {
    if (button.getAttribute("aria-pressed") === "true") {
      overlay.replaceWith(plain);
      told.replaceChildren();
      return button.setAttribute("aria-pressed", "false");
    }
    if (!overlay) {
      button.disabled = true;
      const found = await ask(file);
      button.disabled = false;
      if (found.refused) return told.replaceChildren(found.refused);
      overlay = drawHeat(found);
    }
    plain = said.parentElement.querySelector(".picture");
    plain.replaceWith(overlay);
    told.replaceChildren(...overlay.told);
    button.setAttribute("aria-pressed", "true");
    button.focus(); // a disabled button loses it
  };
  return [button, told];
}

function drawHeat({ overlay, grid, method, class: label }) {
  const picture = make("img", "picture");
  picture.src = `data:image/png;base64,${overlay}`;
  const what = label === null ? "the answer" : shown(label);
  const nothing = grid.every((row) => row.every((value) => value === 0));
  picture.alt = nothing ? `Nothing in the image speaks for ${what}` : `Heat over the parts that speak for ${what}`;
  const how = { cam: "CAM", "grad-cam": "Grad-CAM", "roll-out": "attention roll-out, the same for every class" };
  const words = nothing ? "Nothing here speaks for " : "Bright: what speaks for ";
  const end = `, by ${how[method]}. The picture is what the network sees of the image.`;
  picture.told = [words, label === null ? what : name(label), end];
  return picture;
}
