// Show the state of a visit as the server reports it; the server awaits, and the page never polls.
const element = (id) => document.getElementById(id);
const visit = location.pathname.match(/^\/visits\/[\w-]+$/)?.[0];
const texts = {
  editor: "Open the editor, make your avatar and come back. This page notices when you are done.",
  export: "Your avatar is ready. Its model is being exported.",
  ready: "Here is your model. Turn it with the mouse or the arrow keys.",
};

function show(state) {
  const steps = [...document.querySelectorAll("#steps li")];
  const current = steps.findIndex((step) => step.dataset.state === state.state);
  if (current >= 0) {
    steps.forEach((step, index) => {
      step.classList.toggle("done", index < current || state.state === "ready");
      step.toggleAttribute("aria-current", index === current && state.state !== "ready");
    });
  }
  element("status").textContent = texts[state.state] ?? state.message;
  element("status").classList.toggle("failed", state.state === "failed");
  element("editor").hidden = state.state !== "editor";
  if (state.url) element("editor").href = state.url;
  if (state.state === "ready") showModel(state);
}

function showModel({ model, facts }) {
  const viewer = document.createElement("model-viewer");
  const attributes = { src: model, alt: "Your avatar in 3D", "camera-controls": "", autoplay: "", "interaction-prompt": "none" };
  for (const [name, value] of Object.entries(attributes)) viewer.setAttribute(name, value);
  viewer.appendChild(document.createElement("p")).textContent = "The viewer is loading. You can also download the model."; // hidden once its script has run
  element("stage").replaceChildren(viewer);
  const rows = Object.entries(facts).map(([name, value]) => {
    const row = document.createElement("tr");
    const heading = row.appendChild(document.createElement("th"));
    heading.scope = "row";
    heading.textContent = name;
    row.appendChild(document.createElement("td")).textContent = value;
    return row;
  });
  element("facts").replaceChildren(...rows);
  element("download").href = model;
  element("result").hidden = false;
}

function listen() {
  const source = new EventSource(`${visit}/events`);
  source.onmessage = ({ data }) => {
    const state = JSON.parse(data);
    show(state);
    if (state.state === "ready" || state.state === "failed") source.close();
  };
  source.onerror = () => {
    element("status").textContent = "Connecting again";
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000); // an error status ends an EventSource
  };
}

element(visit ? "visit" : "start").hidden = false;
if (visit) listen();
