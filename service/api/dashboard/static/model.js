// A model: which version an alias stands for, back to the one before, and what is to be deleted.
import { ask, create, leaving } from "./api.js";
import { byId, confirmed, given } from "./dom.js";

const { name } = given("given");
const address = `/models/${encodeURIComponent(name)}`;
const aliasAddress = (alias) => `${address}/aliases/${encodeURIComponent(alias)}`;

/** Do something to the model, and show what it is then. */
const change = (button, work) => leaving(button, work, () => location.reload());

function onEach(attribute, act) {
  for (const button of document.querySelectorAll(`[data-${attribute}]`)) {
    button.addEventListener("click", () => act(button, button.getAttribute(`data-${attribute}`)));
  }
}

onEach("roll-back", (button, alias) => change(button, () => create(`${aliasAddress(alias)}/rollback`)));

onEach("delete-alias", async (button, alias) => {
  const asked = `Delete the alias “${alias}”? Requests that name it are refused then; rolling it back brings it back.`;
  if (await confirmed(asked, "Delete")) await change(button, () => ask("DELETE", aliasAddress(alias)));
});

onEach("delete-version", async (button, version) => {
  const asked = `Delete version ${version} of “${name}” with its files? Its number is not given again.`;
  if (!(await confirmed(asked, "Delete"))) return;
  await leaving(button, () => ask("DELETE", `${address}/versions/${version}`), () => location.assign(location.pathname));
});

const form = document.getElementById("alias-form"); // while there is a version
form?.addEventListener("submit", (event) => {
  event.preventDefault();
  const json = { version: Number(byId("alias-version").value) };
  change(form.querySelector("[type=submit]"), () => ask("PUT", aliasAddress(byId("alias").value.trim()), { json }));
});
