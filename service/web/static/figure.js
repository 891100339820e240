// Draws the figures of a page: Plotly's JSON stands beside each, the colours are those of the page.

// The maps in Plotly's bundle put a style element with this id into the page, unless there is one: the content policy
// forbids it, and no page shows a map.
const MAP_STYLE = "9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53";

export async function drawFigures() {
  const places = [...document.querySelectorAll("[data-figure]")];
  const stand = document.createElement("meta");
  stand.id = MAP_STYLE;
  document.head.append(stand);
  await new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = places[0].dataset.plotly;
    script.addEventListener("load", resolve);
    script.addEventListener("error", reject);
    document.head.append(script);
  });
  const draw = () => places.forEach(drawOne);
  draw();
  document.addEventListener("theme:changed", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

// Resolves light-dark(): a canvas or SVG attribute cannot.
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function drawOne(place) {
  const { data, layout } = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  const swaps = new Map([["#0b6e4f", colour("--accent")], ["#5a6b7b", colour("--dim")], ["#ffffff", colour("--back")]]);
  const recoloured = (value) => {
    if (typeof value === "string") return swaps.get(value) ?? value;
    if (Array.isArray(value)) return value.map(recoloured);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, recoloured(item)]));
    }
    return value;
  };
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false };
  const shown = recoloured({ data, layout });
  const narrow = place.clientWidth < 480;
  Object.assign(shown.layout, {
    title: undefined,
    template: undefined,
    font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 13, color: colour("--text") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    xaxis: { ...axis, ...shown.layout.xaxis },
    yaxis: { ...axis, ...shown.layout.yaxis },
    margin: { l: narrow ? 40 : 60, b: 50, ...shown.layout.margin, t: 10 },
    hoverlabel: { bgcolor: colour("--soft"), font: { color: colour("--text") } },
  });
  Plotly.react(place, shown.data, shown.layout, { displayModeBar: false, responsive: true });
}
