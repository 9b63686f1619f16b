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
      legend: {
        ...text, labelColor: pick("--ink"), labelFontSize: narrow ? 10 : 12, labelLimit: 220,
        orient: "top", columns: narrow ? 2 : 5,
      },
    };
    for (const { place, spec } of places) {
      vegaEmbed(place, spec, { actions: false, renderer: "svg", config });
    }
  }
  async function copy(code) {
    try {
      await navigator.clipboard.writeText(code.textContent);
      return true;
    } catch {  // a page opened from a file may not use the clipboard: select, and copy what is selected
      getSelection().selectAllChildren(code);
      return document.execCommand("copy");
    }
  }
  const button = document.getElementById("copy");
  if (button) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      button.textContent = (await copy(document.querySelector(".command code"))) ? "Copied" : "Selected";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
  dark.addEventListener("change", draw);
  draw();
})();
