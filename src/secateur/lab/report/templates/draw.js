(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const places = [...document.querySelectorAll(".vega")].map((place) => ({
    place, spec: JSON.parse(place.querySelector("script").textContent),
  }));
  function draw() {
    const style = getComputedStyle(document.documentElement);
    const pick = (name) => style.getPropertyValue(name).trim();
    const text = { labelColor: pick("--soft"), titleColor: pick("--soft"), labelFontSize: 12, titleFontSize: 12 };
    const narrow = window.innerWidth < 600;
    const config = {
      background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
      axis: { ...text, gridColor: pick("--line"), domainColor: pick("--line"), tickColor: pick("--line") },
      legend: { ...text, labelColor: pick("--ink"), orient: "top", columns: narrow ? 2 : 5, labelLimit: 220 },
    };
    for (const { place, spec } of places) {
      vegaEmbed(place, spec, { actions: false, renderer: "svg", config });
    }
  }
  const button = document.getElementById("copy");
  if (button && (navigator.clipboard || document.queryCommandSupported("copy"))) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const code = document.querySelector(".command code");
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {  // a page opened from a file may not use the clipboard: copy by selecting
        getSelection().selectAllChildren(code);
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
  dark.addEventListener("change", draw);
  draw();
})();
