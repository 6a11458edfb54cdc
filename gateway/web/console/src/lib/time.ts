import { useEffect, useState } from 'react';

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

/** A length of time in at most two words: `8 s`, `3 min 05 s`, `2 h 10 min`, `4 d`. */
export function duration(ms: number): string {
  const whole = Math.max(0, Math.round(ms / second)) * second;
  if (whole < minute) return `${whole / second} s`;
  if (whole < hour) return `${Math.floor(whole / minute)} min ${String((whole % minute) / second).padStart(2, '0')} s`;
  if (whole < day) return `${Math.floor(whole / hour)} h ${String(Math.floor((whole % hour) / minute)).padStart(2, '0')} min`;
  return `${Math.floor(whole / day)} d`;
}

/** How long ago something was. */
export function ago(then: string | null | undefined, now: number): string {
  if (!then) return 'never';
  const passed = now - Date.parse(then);
  return passed < 2 * second ? 'just now' : `${passed < minute ? duration(passed) : coarse(passed)} ago`;
}

/** How long it is until then; what has passed is due. */
export function until(then: string, now: number): string {
  const left = Date.parse(then) - now;
  return left <= second / 2 ? 'any moment' : `in ${left < 10 * minute ? duration(left) : coarse(left)}`;
}

function coarse(ms: number): string {
  if (ms < hour) return `${Math.round(ms / minute)} min`;
  if (ms < day) return `${Math.round(ms / hour)} h`;
  return `${Math.round(ms / day)} d`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const date = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });

export function clockTime(at: string): string {
  return clock.format(new Date(at));
}

export function dateTime(at: string): string {
  return date.format(new Date(at));
}

/** The present, told anew every `every` milliseconds while the page is seen. */
export function useNow(every = second): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const tick = () => {
      if (!document.hidden) setNow(Date.now());
    };
    const timer = setInterval(tick, every);
    document.addEventListener('visibilitychange', tick);
    return () => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', tick);
    };
  }, [every]);
  return now;
}
