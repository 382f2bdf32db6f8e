// Sets the theme before the first paint: the person's choice, else the system's. Not a module, so that it runs at once.
(() => {
  "use strict";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try { return localStorage.getItem("theme"); } catch { return null; }
  };
  const apply = () => {
    const wish = chosen();
    const theme = wish === "dark" || wish === "light" ? wish : system.matches ? "dark" : "light";
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new CustomEvent("theme", { detail: theme }));
  };
  system.addEventListener("change", apply);
  addEventListener("storage", apply);
  document.addEventListener("theme:choose", (event) => {
    try {
      if (event.detail === "system") localStorage.removeItem("theme");
      else localStorage.setItem("theme", event.detail);
    } catch { /* a browser without storage: the choice lasts for this page */ }
    if (event.detail !== "system" && chosen() !== event.detail) document.documentElement.dataset.theme = event.detail;
    else apply();
  });
  apply();
})();
