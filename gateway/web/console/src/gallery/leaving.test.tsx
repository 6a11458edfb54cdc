// @vitest-environment happy-dom
import { DndContext, KeyboardSensor, useDraggable, useSensor, useSensors } from '@dnd-kit/core';
import { cleanup, fireEvent, render, screen, waitFor } from '@testing-library/react';
import { useState } from 'react';
import { afterEach, expect, test } from 'vitest';
import { usePutDownOnLeave } from './leaving';

afterEach(cleanup);

function Picture() {
  const { setNodeRef, listeners } = useDraggable({ id: 'picture' });
  return (
    <button type="button" ref={setNodeRef} {...listeners}>
      picture
    </button>
  );
}

function Page() {
  const [dragging, setDragging] = useState(false);
  usePutDownOnLeave(dragging);
  return (
    <DndContext
      sensors={useSensors(useSensor(KeyboardSensor))}
      onDragStart={() => setDragging(true)}
      onDragEnd={() => setDragging(false)}
      onDragCancel={() => setDragging(false)}
    >
      <Picture />
      <output>{dragging ? 'lifted' : 'lies'}</output>
    </DndContext>
  );
}

/** Presses a key, and tells whether somebody took it. */
const taken = (key: string) => !fireEvent.keyDown(document.body, { code: key, key });

test('a page that was left takes no keys, though something was lifted', async () => {
  const page = render(<Page />);
  fireEvent.keyDown(screen.getByText('picture'), { code: 'Space', key: ' ' });
  await screen.findByText('lifted');
  await waitFor(() => expect(taken('ArrowRight')).toBe(true)); // it listens from the next turn on
  page.unmount();
  expect(taken('Escape')).toBe(false);
});
