// The list of data sets: a file that is dropped becomes one.
import { byId } from "./dom.js";
import { dropZone, upload } from "./upload.js";

const zone = document.querySelector(".upload"); // on the first page of the list
if (zone) {
  dropZone(zone, async (file, stage) => {
    const words = byId("upload-missing").value;
    const missing = words.trim() ? words.split(",").map((word) => word.trim()) : [];
    const dataset = await upload(file, stage, { name: byId("upload-name").value.trim(), missing });
    stage.say("Done; opening it.");
    location.assign(`/dashboard/datasets/${encodeURIComponent(dataset.id)}`);
  });
}
