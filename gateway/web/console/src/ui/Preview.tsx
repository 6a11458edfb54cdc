import { type ReactNode, useState } from 'react';

/** The picture of an unfinished result, which is gone when its attempt ends: then, and while there is none, what stands for it. */
export function Preview({
  src,
  className,
  alt = '',
  children,
}: {
  src: string | undefined;
  className?: string;
  alt?: string;
  children?: ReactNode;
}) {
  const [gone, setGone] = useState<string>();
  if (!src || src === gone) return children;
  return <img className={className} src={src} alt={alt} decoding="async" onError={() => setGone(src)} data-testid="preview" />;
}
