#include "textflag.h"

// func multiplyAVX2(c *float32, stride uintptr, panel, b *float32, offsets *int32, delta uintptr, depth int)
// stride and delta are in bytes, offsets in numbers.
//
// Y0 to Y11 are the tile, two registers a row. Y12 and Y13 hold a row of b, Y14 and Y15 a number of the panel.
TEXT ·multiplyAVX2(SB), NOSPLIT, $0-56
	MOVQ c+0(FP), DI
	MOVQ stride+8(FP), SI
	MOVQ panel+16(FP), AX
	MOVQ b+24(FP), BX
	MOVQ offsets+32(FP), R9
	MOVQ delta+40(FP), R11
	MOVQ depth+48(FP), CX
	ADDQ BX, R11

	MOVQ    DI, R8
	VMOVUPS (R8), Y0
	VMOVUPS 32(R8), Y1
	ADDQ    SI, R8
	VMOVUPS (R8), Y2
	VMOVUPS 32(R8), Y3
	ADDQ    SI, R8
	VMOVUPS (R8), Y4
	VMOVUPS 32(R8), Y5
	ADDQ    SI, R8
	VMOVUPS (R8), Y6
	VMOVUPS 32(R8), Y7
	ADDQ    SI, R8
	VMOVUPS (R8), Y8
	VMOVUPS 32(R8), Y9
	ADDQ    SI, R8
	VMOVUPS (R8), Y10
	VMOVUPS 32(R8), Y11

	PCALIGN $32
loop:
	MOVLQSX      (R9), R10
	VMOVUPS      (BX)(R10*4), Y12
	VMOVUPS      (R11)(R10*4), Y13
	VBROADCASTSS (AX), Y14
	VBROADCASTSS 4(AX), Y15
	VFMADD231PS  Y12, Y14, Y0
	VFMADD231PS  Y13, Y14, Y1
	VFMADD231PS  Y12, Y15, Y2
	VFMADD231PS  Y13, Y15, Y3
	VBROADCASTSS 8(AX), Y14
	VBROADCASTSS 12(AX), Y15
	VFMADD231PS  Y12, Y14, Y4
	VFMADD231PS  Y13, Y14, Y5
	VFMADD231PS  Y12, Y15, Y6
	VFMADD231PS  Y13, Y15, Y7
	VBROADCASTSS 16(AX), Y14
	VBROADCASTSS 20(AX), Y15
	VFMADD231PS  Y12, Y14, Y8
	VFMADD231PS  Y13, Y14, Y9
	VFMADD231PS  Y12, Y15, Y10
	VFMADD231PS  Y13, Y15, Y11
	ADDQ         $24, AX
	ADDQ         $4, R9
	DECQ         CX
	JNZ          loop

	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	ADDQ    SI, DI
	VMOVUPS Y2, (DI)
	VMOVUPS Y3, 32(DI)
	ADDQ    SI, DI
	VMOVUPS Y4, (DI)
	VMOVUPS Y5, 32(DI)
	ADDQ    SI, DI
	VMOVUPS Y6, (DI)
	VMOVUPS Y7, 32(DI)
	ADDQ    SI, DI
	VMOVUPS Y8, (DI)
	VMOVUPS Y9, 32(DI)
	ADDQ    SI, DI
	VMOVUPS Y10, (DI)
	VMOVUPS Y11, 32(DI)
	VZEROUPPER
	RET

// Constants of SiLU, each eight times.
#define EIGHT(name, value) \
	DATA  name<>+0(SB)/4, value  \
	DATA  name<>+4(SB)/4, value  \
	DATA  name<>+8(SB)/4, value  \
	DATA  name<>+12(SB)/4, value \
	DATA  name<>+16(SB)/4, value \
	DATA  name<>+20(SB)/4, value \
	DATA  name<>+24(SB)/4, value \
	DATA  name<>+28(SB)/4, value \
	GLOBL name<>(SB), RODATA|NOPTR, $32

EIGHT(highest, $0x42ae0000)  // 87
EIGHT(lowest, $0xc2ae0000)   // -87
EIGHT(log2e, $0x3fb8aa3b)    // 1/ln 2
EIGHT(ln2high, $0x3f318000)  // ln 2, rounded to few bits
EIGHT(ln2low, $0xb95e8083)   // the rest of ln 2
EIGHT(one, $0x3f800000)      // 1
EIGHT(half, $0x3f000000)     // 1/2
EIGHT(sixth, $0x3e2aaaab)    // 1/6
EIGHT(c24, $0x3d2aaaab)      // 1/24
EIGHT(c120, $0x3c088889)     // 1/120
EIGHT(c720, $0x3ab60b61)     // 1/720
EIGHT(signbit, $0x80000000)

// func siluAVX2(x *float32, eights int)
// Replaces 8*eights numbers x by x/(1+exp(-x)).
//
// exp(y) = 2^n * exp(r), where n is y/ln 2 to the nearest whole number and r = y - n*ln 2; exp(r) is its Taylor polynomial.
TEXT ·siluAVX2(SB), NOSPLIT, $0-16
	MOVQ    x+0(FP), DI
	MOVQ    eights+8(FP), CX
	VMOVUPS signbit<>(SB), Y8
	VMOVUPS log2e<>(SB), Y9
	VMOVUPS ln2high<>(SB), Y10
	VMOVUPS ln2low<>(SB), Y11
	VMOVUPS one<>(SB), Y12
	VMOVUPS highest<>(SB), Y13
	VMOVUPS lowest<>(SB), Y14

	PCALIGN $32
next:
	VMOVUPS      (DI), Y0
	VXORPS       Y8, Y0, Y1
	VMINPS       Y13, Y1, Y1
	VMAXPS       Y14, Y1, Y1         // y = -x, bounded
	VMULPS       Y9, Y1, Y2
	VROUNDPS     $0, Y2, Y2          // n
	VFNMADD231PS Y10, Y2, Y1
	VFNMADD231PS Y11, Y2, Y1         // r
	VMOVUPS      c720<>(SB), Y3
	VFMADD213PS  c120<>(SB), Y1, Y3
	VFMADD213PS  c24<>(SB), Y1, Y3
	VFMADD213PS  sixth<>(SB), Y1, Y3
	VFMADD213PS  half<>(SB), Y1, Y3
	VFMADD213PS  Y12, Y1, Y3
	VFMADD213PS  Y12, Y1, Y3         // exp(r)
	VCVTPS2DQ    Y2, Y2
	VPSLLD       $23, Y2, Y2
	VPADDD       Y2, Y3, Y3          // exp(y)
	VADDPS       Y12, Y3, Y3
	VDIVPS       Y3, Y0, Y0
	VMOVUPS      Y0, (DI)
	ADDQ         $32, DI
	DECQ         CX
	JNZ          next
	VZEROUPPER
	RET
