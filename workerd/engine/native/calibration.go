package native

import "time"

// Numbers that belong to the trained nets.
const (
	// modelName is what the nets are called in metadata and to the gateway.
	modelName = "darkroom-emoji"

	// imageSteps is how many steps lead from noise to a picture, of the second order: train/evaluate.py finds as many pictures right as with
	// 10 steps of the first, which cost twice as much.
	imageSteps = 5
	// guidance is how far words draw a picture away from what the nets draw without words; other than 1, a step takes two evaluations.
	guidance = 2.0

	// travelSteps is how many steps lead from a picture to noise, and back to each frame of a travel.
	travelSteps = 8
	// inversionGuesses is how often each step to noise is guessed, so that the step back leads to where it came from;
	// inversionShare is how far a guess moves to where the flow leads. A whole move overshoots: measured on 24 drawings of the training, 5
	// guesses of a share of 0.6 bring them back as well as the autoencoder draws them, 6 whole ones twice as far off.
	inversionGuesses = 5
	inversionShare   = 0.6

	// maxDrawingError is how much a picture may change when the autoencoder draws it, as mean absolute difference of 255. Beyond, it
	// is not like what the nets were trained on, and a travel is interpolated by ffmpeg. Drawings of emoji change by 1 to 5, a photo
	// of fur or wood by 7 to 9.
	maxDrawingError = 6.5
	// maxJourneyError is the same for the way to noise and back.
	maxJourneyError = 10.0
)

// Sizes of the nets.
const (
	latentChannels = 8
	latentSide     = 16
	latentNumbers  = latentChannels * latentSide * latentSide
	pictureSide    = 128
	conditionWidth = 256
	enlargement    = 4
)

const (
	// batch is how many latents or pictures one run of a net takes at most, so that a cancelled task ends soon.
	batch = 8
	// mostKeys is how many frames of a travel are drawn; in longer ones neighbours are mixed.
	mostKeys = 96
	// fading is the share of a travel within which what the nets lose of a given picture fades out.
	fading = 0.3
	// previewEvery is how often a travel shows an unfinished frame, firstPreview when at the earliest. A picture is done before anybody could look at a preview.
	previewEvery = 2 * time.Second
	firstPreview = 500 * time.Millisecond
)
