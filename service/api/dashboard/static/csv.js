// CSV as people keep it: cut into records and cells, with quotes, and lines put side by side.

/** Cut CSV into its records, each as it was written; line ends within quotes do not count, blank lines are left out. */
export function records(text, most = Infinity) {
  const found = [];
  let start = text.startsWith("\ufeff") ? 1 : 0;
  let isQuoted = false;
  for (let place = start; place <= text.length && found.length < most; place += 1) {
    const letter = text[place];
    if (letter === '"') isQuoted = !isQuoted;
    const isEnd = place === text.length || (!isQuoted && (letter === "\n" || letter === "\r"));
    if (!isEnd) continue;
    if (place > start) found.push(text.slice(start, place));
    start = place + 1;
  }
  return found;
}

/** Cut a record into its cells. */
export function cells(record) {
  const found = [];
  let cell = "";
  let isQuoted = false;
  for (let place = 0; place < record.length; place += 1) {
    const letter = record[place];
    if (isQuoted && letter === '"' && record[place + 1] === '"') {
      cell += '"';
      place += 1;
    } else if (letter === '"') isQuoted = !isQuoted;
    else if (letter === "," && !isQuoted) {
      found.push(cell);
      cell = "";
    } else cell += letter;
  }
  return [...found, cell];
}
