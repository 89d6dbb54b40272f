() => {
  // The buttons of the examples hold an image alone: each gets the name of its file, for who hears the page.
  const name = () => document.querySelectorAll("#examples button:not([aria-label]) img").forEach((image) => {
    const file = decodeURIComponent(image.src).split("/").pop().replace(/\.[a-z]+$/, "");
    image.closest("button").setAttribute("aria-label", `Example: ${file.replaceAll("-", " ")}`);
  });
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
  name();
}
