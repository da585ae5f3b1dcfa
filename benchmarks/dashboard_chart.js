// Feeds the page of a job its own epochs again, as a stream would, and measures what each of them costs.
async ({ folder, perSecond, from }) => {
  const { learningCurves } = await import(`${folder}/job-curves.js`);
  const { layerView } = await import(`${folder}/job-layers.js`);
  const { job, bounds } = JSON.parse(document.getElementById("given").textContent);
  const own = `/dashboard/jobs/${job.id}`;
  const read = async (part) => (await fetch(`${own}/${part}`)).json();
  const [all, { items: looks }] = [await read("curves"), await read("layers")];
  const epochs = all.epochs.map((epoch, place) => ({
    epoch,
    ...Object.fromEntries(Object.entries(all.metrics).map(([name, values]) => [name, values[place]])),
  }));
  const first = epochs.filter(({ epoch }) => epoch <= from);
  const column = (name) => first.map((epoch) => epoch[name]);

  // The layers come through the page's own reading, but only as far as the training has come by then.
  let now = from;
  const realFetch = window.fetch;
  window.fetch = async (address, options) => {
    const after = Number(new URL(address, location.href).searchParams.get("after") ?? -2);
    if (after < -1) return realFetch(address, options);
    return new Response(JSON.stringify({ items: looks.filter(({ epoch }) => epoch > after && epoch <= now) }));
  };
  const running = { ...job, state: "running", finished_at: null };
  const curves = learningCurves(running);
  const layers = layerView({ address: own, job: running, bounds });
  curves.replace({ every: 1, epochs: column("epoch"), metrics: Object.fromEntries(Object.keys(all.metrics).map((name) => [name, column(name)])) });
  await layers.again();
  await new Promise((resolve) => setTimeout(resolve, 500));

  const frames = [];
  let isOver = false;
  const watch = (time) => {
    frames.push(time);
    if (!isOver) requestAnimationFrame(watch);
  };
  requestAnimationFrame(watch);

  const scripts = [];
  const pause = 1000 / perSecond;
  for (const epoch of epochs.filter((one) => one.epoch > from)) {
    const began = performance.now();
    now = epoch.epoch;
    curves.add(epoch);
    await layers.more();
    scripts.push(performance.now() - began);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, pause - (performance.now() - began))));
  }
  isOver = true;
  window.fetch = realFetch;
  return { frames, scripts, lines: document.querySelectorAll(".chart path.line").length };
}
