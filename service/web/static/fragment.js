// Parts of a page that take long to compute and stand far down it: each is a page of its own, of which the part that
// data-part names is put in its place once someone comes near.
export function tendFragments() {
  const near = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      fill(target);
    }
  }, { rootMargin: "400px" });
  for (const place of document.querySelectorAll("[data-fragment]")) near.observe(place);
}

async function fill(place) {
  try {
    const answer = await fetch(place.dataset.fragment, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    place.replaceChildren(...document.adoptNode(page.getElementById(place.dataset.part)).childNodes);
  } catch {
    // Away for a moment: the link above it leads to the same.
  }
}
