// Ask a model: one row by a form, how sure the answer is and why, or a whole file.
import { ask, doing, get } from "./api.js";
import { showAnswer, showExplanation, showUncertainty } from "./answers.js";
import { showPredictCommands } from "./commands.js";
import { byId, fill, given } from "./dom.js";
import { followPrediction, predictFile, remembered } from "./predict-file.js";
import { rowForm } from "./row-form.js";
import { dropZone } from "./upload.js";

const SAMPLES = 100;
const EXAMPLES = 20;
const about = given("given");
const form = byId("row");
const submit = form.querySelector("[type=submit]");
let truth; // what the table says of the row in the form
let asked = 0;
const row = rowForm(about, changed);
let isTouched = row.isTyped;

function changed() {
  truth = undefined;
  isTouched = true;
  commands();
}

const commands = () => showPredictCommands(byId("commands"), { model: about.model, named: about.named, row: row.values() });

/** Ask about the row in the form; resolves to nothing where the form is not in order. */
async function answer(more = {}) {
  isTouched = true; // the row stays that the answer is about
  if (!row.isInOrder()) return undefined;
  const json = { model: about.model, ...about.named, instances: [row.values()], ...more };
  const mine = (asked += 1);
  for (const id of ["sure-answer", "why-answer"]) fill(byId(id)); // they may be about another row
  const answered = await ask("POST", "/predict", { json });
  if (mine !== asked) return undefined; // something else has been asked since
  showAnswer(byId("answer"), answered, about.target, truth);
  byId("answer").scrollIntoView({ block: "nearest" });
  return answered;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  doing(submit, () => answer());
});

const more = (id, wanted, show) => byId(id).addEventListener("click", () => doing(byId(id), async () => {
  const answered = await answer(wanted);
  if (answered) show(byId(`${id}-answer`), answered);
}));
more("sure", { uncertainty: { samples: SAMPLES } }, showUncertainty);
more("why", { explain: true }, showExplanation);

byId("which").addEventListener("change", ({ target }) => location.assign(`${location.pathname}${target.value ? `?${target.value}` : ""}`));

/** Go through rows of the table that it was trained on. */
function examples({ id, small }) {
  const button = byId("example");
  const size = about.width > about.fields.length ? 1 : EXAMPLES;
  let rows = [];
  let token = null;
  async function next(isWanted = () => true) {
    if (!rows.length) {
      const found = await get(`/datasets/${encodeURIComponent(id)}/rows?page_size=${size}${token ? `&page_token=${encodeURIComponent(token)}` : ""}`);
      rows = found.items;
      token = found.next_page_token;
    }
    if (!isWanted()) return;
    const cells = rows.shift();
    row.fill(cells);
    truth = cells[about.target];
  }
  button.addEventListener("click", () => doing(button, () => next()));
  // The form begins with cells from the description of the table; reading a row of it takes a while where it is large.
  if (small) next(() => !isTouched).catch(() => {});
}

commands();
byId("submit").disabled = false; // now somebody listens
if (about.dataset) examples(about.dataset);
const run = dropZone(document.querySelector(".upload"), (file, stage) => predictFile(byId("file-answer"), about, file, stage, run));
if (remembered()) run(null, (_, stage) => followPrediction(byId("file-answer"), remembered(), stage));
