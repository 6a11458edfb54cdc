import { useEffect, useRef } from 'react';

/**
 * Puts down what is dragged when its page is left. dnd-kit listens to the whole document while something is dragged, and when its context goes it does not
 * stop: the next Escape or Space would be taken by a page that is not there. A resize is what makes it let go.
 */
export function usePutDownOnLeave(dragging: boolean): void {
  const now = useRef(dragging);
  now.current = dragging;
  useEffect(
    () => () => {
      if (now.current) window.dispatchEvent(new Event('resize'));
    },
    [],
  );
}
