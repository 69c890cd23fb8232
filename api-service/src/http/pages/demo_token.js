// Swagger UI in development mode: a click authorises with a demonstration token. The service adds this script to `/docs`.
{
  const LOCATION = "loc1";
  const DEMOS = [
    { label: "the doctor doc123", sub: "doc123", role: "user" },
    { label: "the patient pat456", sub: "pat456", role: "contact" },
  ];

  async function token({ sub, role }) {
    const response = await fetch("/dev/token", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ sub, role, location_id: LOCATION }),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail);
    return answer.token;
  }

  const element = (name, properties) => Object.assign(document.createElement(name), properties);
  const state = element("span", { id: "demo-state", role: "status" });

  function button(demo) {
    const onclick = async () => {
      try {
        globalThis.ui.preauthorizeApiKey("token", await token(demo));
        state.textContent = `You are ${demo.label} for an hour.`;
      } catch (error) {
        state.textContent = `There is no token: ${error.message}`;
      }
    };
    return element("button", { type: "button", textContent: `Be ${demo.label}`, onclick });
  }

  const bar = element("section", { id: "demo", ariaLabel: "Demonstration token" });
  bar.style.cssText =
    "display: flex; flex-wrap: wrap; gap: 12px; align-items: center; padding: 12px 20px; background: #fff3cd; color: #332701; font: 14px sans-serif";
  bar.append("Development mode:", ...DEMOS.map(button), state);
  document.body.prepend(bar);
}
