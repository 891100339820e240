// What pages do beyond their forms and links. Each part looks for what it tends to and does nothing where there is none.
import { tendFragments } from "./fragment.js";
import { followLive } from "./live.js";
import { tendTables } from "./table.js";
import { tendUploads } from "./upload.js";

tendTheme();
tendCopying();
tendTables();
tendUploads();
tendFragments();
followLive();
if (document.querySelector("[data-figure]")) import("./figure.js").then((module) => module.drawFigures());

function tendTheme() {
  const form = document.querySelector("form.theme");
  const button = form.querySelector("button");
  const isDark = () => document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => {
    button.value = isDark() ? "light" : "dark";
    button.textContent = isDark() ? "Light" : "Dark";
  };
  label();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = button.value;
    const fields = new URLSearchParams(new FormData(form));
    fields.set("theme", chosen);
    document.documentElement.dataset.theme = chosen;
    label();
    document.dispatchEvent(new CustomEvent("theme:changed"));
    await fetch("/theme", { method: "POST", body: fields, redirect: "manual" });
  });
}

function tendCopying() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim() + "\n");
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
}
