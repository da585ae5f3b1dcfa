// Lines that bring a table in and train on it, or ask a model, for a terminal and a notebook.
import { json, literal, quoted, showEquivalents, showTexts } from "./equivalents.js";

const DEFAULT_URL = "http://127.0.0.1:8000";
const AS_JSON = "-H 'Content-Type: application/json'";
const READ_ID = `python3 -c 'import json,sys; print(json.load(sys.stdin)["id"])'`;
const SUFFIXES = { csv: "csv", parquet: "parquet", ndjson: "ndjson", json: "json" };

const client = () => (location.origin === DEFAULT_URL ? "" : literal(location.origin));
const place = () => (location.origin === DEFAULT_URL ? [] : [`--url ${quoted(location.origin)}`]);

/** Show what sends a data set's file and trains on it; of a built-in one, what trains on it. */
export function showTrainCommands(host, { id, name, format, builtin }, target) {
  const spec = target ? { dataset: id, target } : { dataset: id };
  if (builtin) {
    showEquivalents(host, { spec });
    return;
  }
  const file = `${/^\w[\w.-]*$/.test(name) ? name : "table"}.${SUFFIXES[format] ?? "csv"}`;
  // The id is not known before the upload: the shell puts it between two quoted texts.
  const [before, after] = json({ ...spec, dataset: "\u0000" }).replace('"\\u0000"', "\u0000").split("\u0000").map(quoted);
  const fields = target ? `, target=${literal(target)}` : "";
  showTexts(host, [
    {
      label: "curl",
      text: [
        `ID=$(curl -s ${quoted(`${location.origin}/datasets`)} -F file=@${file} | ${READ_ID})`,
        `curl -s ${quoted(`${location.origin}/jobs`)} ${AS_JSON} \\`,
        `  -d ${before}\\"$ID\\"${after}`,
      ].join("\n"),
    },
    {
      label: "Python",
      text: ["from service.client import Client", "", `with Client(${client()}) as client:`, `    job = client.train(${literal(file)}${fields})`].join("\n"),
    },
    { label: "Command line", text: ["selfnorm train", file, ...(target ? [option("--target", target)] : []), "--watch", ...place()].join(" ") },
  ]);
}

/** Show what asks a model for one row; `named` is {version}, {alias} or nothing. */
export function showPredictCommands(host, { model, named, row }) {
  const asked = { model, ...named, instances: [row] };
  const python = Object.entries(named).map(([name, value]) => `, ${name}=${literal(value)}`).join("");
  const options = Object.entries(named).map(([name, value]) => option(`--${name}`, String(value)));
  showTexts(host, [
    { label: "curl", text: `curl -s ${quoted(`${location.origin}/predict`)} ${AS_JSON} \\\n  -d ${quoted(json(asked))}` },
    {
      label: "Python",
      text: ["from service.client import Client", "", `row = ${literal(row)}`, `with Client(${client()}) as client:`, `    print(client.predict(${literal(model)}, [row]${python}).predictions)`].join("\n"),
    },
    {
      label: "Command line",
      text: [`printf '%s\\n' ${quoted(json(row))} \\\n  | selfnorm predict`, quoted(model), "- --format ndjson", ...options, ...place()].join(" "),
    },
  ]);
}

const option = (name, value) => (value.startsWith("-") ? `${name}=${quoted(value)}` : `${name} ${quoted(value)}`);
