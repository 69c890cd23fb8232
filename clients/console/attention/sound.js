// A short sound for a new message. The browser synthesises it, so the page needs no audio file.

const TONES = [[660, 0], [880, 0.12]]; // hertz, and seconds after the start
const TONE_SECONDS = 0.22;
const VOLUME = 0.08;
const MIN_INTERVAL_MS = 1_500; // several messages at once are one sound

/** @type {AudioContext | null} */
let audio = null;
let playedAt = -Infinity;

/** Plays the sound. Browsers stay silent until the user has clicked or typed once. */
export function playSound() {
  const AudioContext = globalThis.AudioContext;
  if (!AudioContext || navigator.userActivation?.hasBeenActive === false) return;
  const now = performance.now();
  if (now - playedAt < MIN_INTERVAL_MS) return;
  playedAt = now;
  audio ??= new AudioContext();
  void audio.resume().catch(() => {}); // a browser without a loudspeaker refuses
  for (const [hertz, delay] of TONES) playTone(audio, hertz, audio.currentTime + delay);
}

/** A soft tone: a sudden start or end would click. */
function playTone(context, hertz, startsAt) {
  const endsAt = startsAt + TONE_SECONDS;
  const tone = new OscillatorNode(context, { type: "sine", frequency: hertz });
  const volume = new GainNode(context, { gain: 0 });
  volume.gain.setValueAtTime(0, startsAt);
  volume.gain.linearRampToValueAtTime(VOLUME, startsAt + 0.02);
  volume.gain.exponentialRampToValueAtTime(0.0001, endsAt);
  tone.connect(volume).connect(context.destination);
  tone.start(startsAt);
  tone.stop(endsAt);
}
