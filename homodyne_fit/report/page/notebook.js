// A small picture of a fit in a notebook: data, fit and residual of an angle, and what is under the
// pointer.
function showInNotebook(host, data) {
  const store = new Store(data.arrays);
  const { angles, frames, dt } = data;
  const [select, told] = [host.querySelector("select"), host.querySelector("output")];
  const chosen = () => angles[select.selectedIndex];
  const square = (name) => store.square(chosen()[name], chosen().side);
  const names = ["data", "fit", "residual"];
  const panels = names.map(
    (name, k) => new MatrixPanel(host.querySelectorAll(".panel")[k], name, { frames, dt, move }),
  );

  function move(i, j) {
    panels.forEach((panel) => panel.mark(i, j));
    const [t1, t2] = centre(chosen(), Math.min(i, j), Math.max(i, j), data);
    const [c2, fit, residual] = names.map((name) => square(name)[i * chosen().side + j]);
    told.textContent =
      `t₁ ${shown(t1)} s, t₂ ${shown(t2)} s, lag ${shown(t2 - t1)} s: ` +
      `c₂ ${Number.isNaN(c2) ? "missing" : shown(c2)}, fit ${shown(fit)}, residual ${shown(residual, 3)} σ`;
  }

  function show() {
    const angle = chosen();
    const ranges = [store.range(angle.data), store.range(angle.fit)];
    const common = { low: Math.min(...ranges.map(([a]) => a)), high: Math.max(...ranges.map(([, b]) => b)), colours: "c2" };
    panels[0].show(square("data"), angle, common);
    panels[1].show(square("fit"), angle, common);
    panels[2].show(square("residual"), angle, { low: -4, high: 4, colours: "residual" });
    move(Math.floor(angle.side / 3), Math.floor(angle.side / 2));
  }

  select.addEventListener("change", show);
  show();
}
