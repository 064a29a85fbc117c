"""JPEG files of kinds that no encoder in Python writes.

The image data is from `cjpeg -quality 92 -sample ...` of libjpeg-turbo, for one image of 37x21 pixels. The
arithmetic-coded file is from `cjpeg -quality 20 -grayscale -arithmetic`, for 48x48 random values.
"""

from __future__ import annotations

import base64
import struct

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.real.image_bytes import scan, textured

_FRAME = b"\xff\xc0"


def subsampled(factors: tuple[int, int, int]) -> bytes:
    """The file with these sampling factors of its three components, as in the frame's segment."""
    plain = cv2.imencode(".jpg", textured(), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    header = bytearray(plain[: scan(plain)])
    at = header.index(_FRAME)
    header[at + 5 : at + 9] = struct.pack(">HH", 21, 37)
    for component, factor in enumerate(factors):
        header[at + 11 + 3 * component] = factor
    return bytes(header) + base64.b85decode(FACTORS[factors]) + b"\xff\xd9"


def one_scan_each(planes: NDArray[np.uint8]) -> tuple[bytes, list[bytes]]:
    """The header of a JPEG of (3, rows, columns) samples, and one sequential scan for each component."""
    files = [cv2.imencode(".jpg", plane)[1].tobytes() for plane in planes]
    at = files[0].index(_FRAME)
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    frame = files[0][at + 4 : at + 9] + b"\3" + components
    begin = files[0].index(b"\xff\xda")
    header = files[0][:at] + _FRAME + struct.pack(">H", len(frame) + 2) + frame + files[0][at + 13 : begin]
    starts = [struct.pack(">HHBBBBBB", 0xFFDA, 8, 1, number, 0, 0, 63, 0) for number in (1, 2, 3)]
    return header, [start + file[begin + 10 : -2] for start, file in zip(starts, files, strict=True)]


def arithmetic() -> bytes:
    return base64.b85decode(_ARITHMETIC)


FACTORS = {
    (0x42, 0x11, 0x11): (
        "-|-H;cj7x&f#ShzkGgBfF1{SkE~e8mpP1EKkA~BxryT2?FV?&LI`;cUw~iExJ2>b~b(3l~Hj^TVfdup4(zjL(BJRje"
        "0;^*^KDEzjnrPHDk#3_ZTLa#`yGi&breA4h@@=H;CzD=2LB-Oqkk1#G!Smafm%XHtIXH7V#pO8q^1~#k!QLO>PxU;1"
        "OYx4NEY}eK0OO{LD6Zd7@TP~R-94}F#?$@kD58hNSa13Om)w1i_N6+${{SM_UHhE!Xc~N|UP$srYcIr*$EWGcEx}xI"
        "`qnRlZss>eO~-I<4SgTsEpJehL3C-jDhJc06j4QGnnglbXhmq#zutd8aK<96_(F4(n|9y+-aMzoGtDNcE3~XhC%?I("
        "iYTIrEA-lMk0R5d`qd~$l0Jw"
    ),
    (0x24, 0x11, 0x11): (
        "-|-H;cj7x&f#ShzkGgBfF1{SkE~e8mpP1LM&8XPgOo}1|6VHE2-B>h>yCFCVt&H^g)6+oH<wEjDk~3L;B!)ddPGN2e"
        "<B!&gE5pceIj#bX>tZpIs|2)*TOX5ToKU!~yz5bnu=e{fYnSe_JR;-awCSnGI_C@ZuKxf|y}r?{<Aoy5&N>raMwzCK"
        "Ls=H;GNrIR>)W)Sf_i24mTxB7PSSZb;QkG}nB5sS9l^LY^nZl4y+Ta|(Wc<2A5N4}SBT<VerZY+D76I#)+yibKTFIw"
        "w;#heS~8<jPEu)aWv`Ww2-5sxs0%g3KltgQyM05#njV{U_P@IuPxq*-pAgS9nxwAMu_T`U=87n<q=rq7sTDu0Er03M"
        "4}P9+imwGyZ8rTs$N"
    ),
    (0x31, 0x11, 0x11): (
        "-|-H;cj7x&f#ShzkGgBfF1{SkE~e8mpP1EKkA~BxryT2?FV?+I7S1D_#*FE`w0|UU<e2(-CT#NN^`_4M08YKW(XHc!"
        "BF@e_6J55K;~hX*t|9*b$4wMe%5b&kDau`6Uo-W5$1tIrs&()7Y*m|4v9y^KL<lFI{*}70X%}`va1~n_>GiIAOw&f8"
        "tc!ISQrI5#`B#QjahXOAqpzcK)9ybBp@WVuJ(gsh<5Eoa?I+-#nSG_3$+nZUo=tMvhlMmfHtFqub~c~yQCL&NXIS29"
        "v@dRHckX?b61-cSBP}BAbIG7-@}YSn$r-G_5<?!Jr!cn#amVXez74yW-5EC>!MHW`*_>m9%c;(iwd8(N;f6N0F99EH"
        "?`Ho1Bk2DC32S<UnhT>%!B9S(E6RLBJkn~CyGq28d;6Lz>Ud_177e79?E0=2l(86UlbhF`Uzq"
    ),
    (0x13, 0x11, 0x11): (
        "-|-H;cj7x&f#ShzkGg5oYBn~LB8Y(m^WW0C1kg13P`r`kjMwJa7;(KBsL;eh$K`n5KgcsVC}oiLE&l*<pFdrEIi6ij"
        "re!}duYOoGi@PB>3ayOv`qp=eA&*bfm|KFl<Mpr6u=tG63x?**nv}bv*TO8t!B(Y<=1-?Bj|jN<Z8~ak&bh+<YuWV8"
        "G-?{iw^5ZXf$vp(8+S3fGHyGAaBHIp#`Lhzbd){snffMGj>piW&nm5Y7&>+B_Kj~GDHe8d(3<*NN%$wGUukCYZKUld"
        "lUn`~*7XTA7e<?cpnW=5%wluQ*A<H9r$(PE?s3)eOA(jX`mHL`lk-|05vBOYP!?;5fAP~@zM<hw4^6szU)_zT`_+@;"
        "8RnBzmD*M$li%FezYI2YS#!n|ercY}IF7zGds?Yo`6B"
    ),
    (0x32, 0x11, 0x11): (
        "-|-H;cj7x&f#ShzkGgBfF1{SkE~e8mpP1EKkA~BxryT2?FV?-TZAQk@WKj?xo_qRM>cOO4*$Kc^Y-gv|x$QGe8iukh"
        ")MZOxd)Je|oLgTppsQw4apZPhYR83_WARul>B9pQu=jk9=P##T-)PqH!jWfZ9SN@6OYx4NEY}eK0OO{L_6;ZCo|%26"
        "o5{A5w4P0J+J}WSJvQm>e|9#X?@?L*0Ie8G?o*BqQ`PHlGxS+;B=ax#grz8Zw>jj{H2F}xk>rflUx^`)Pt%xNg1F=L"
        "tX~G*%x;XEj^NxHD58wvDmiT_Q_;C}KLPNvy;|4>?Ihis-_ZI$!dl*;CW7eGa8wVcO7fo&&or8(uF|n2p8n>FD5Acv"
        "hG8G7JvyIX!cEn})Rgsn^8C*"
    ),
    (0x22, 0x11, 0x21): (
        "-|-H;cj7x&f#ShzkGgBfF1{SkE~e8mpP1LM&8XPgOo}1|6VHE2-B>h>yCFCVt&H^g*Trye8fH19<%Gu5afDWlqrl<_"
        "<=9X862&*_eB}(!Kcgh;LeV~VxcF^4YH`lF!u@N%)30x|Yk1*Ev$Kwb*HNZvqfpjGx{Rr84|?|PC*Yo$eWjbpwv)7;"
        "O?}r8aZU#bgQEurH*@sdlRL~ko#|OK=ocPi^55Opl6O3ROYx4NEY}eK0OO{L?ez}|XnJka+WzcqKi;Ce7sOa={{Xnj"
        "{EX$F#~%H(psv8@lR(quLh?tFGg*ElhCM${VQvcJkJgGS)x%PRa5W^7x%?lMWARF?TB!c^e@JB&>ea!)&P|xU4ZE1#"
        "88;olxHa^DgtfgwO$E`W;HV!?lu=(9fRn2??KQLO>V3`|Oe<@#_?~Bptn-duXKS8Q;u+?XRF&FRB$MCV(M1*eE*=r~"
        "QPZLO244ueE71V"
    ),
    (0x21, 0x11, 0x21): (
        "-|-H;cj7x&f#ShzkGgBfF1{SkE~e8mpP1Hp4-(SNu*!^Iy%cykra=xFT+)Au=V17<jOMAQ_@b@H!)en~j&;r#>s|hx"
        "dwru@#|lNAoOC9>$1|ZC*cvLcvHF%x#1ycw=SSXUd}BhaT{)e$m*X8kS*{`f0LM)g;yjZE-Q3sSc)5h|_?ph5mf%&J"
        "QL(g{6hsIop8l1(uxS@|LU0vZ8R_+}!Mr)c<M24@m20QVWATnF%qejfxe1>a9u}4c)o*j2(=^ejYa-o7RJI4bdv=rX"
        "PfWhj&E(rj+D|6GMB?206+ATxba%P>K1qa(=`Uz&nBpklrlU$)oVKCiO%F}Fdtcp+r~A}b&&oOUpEPf0>UualORG-q"
        "Ky%5UY4V|YBgq-8zY;?ppQkXl1#!pgUwMSXQm2BcQY%yV>nYChv8@-*e?{e(%DAi?T~~7#!MAf8qbB3HHwM0s@Rqlz"
        "Nuatk+!X`q(!NIrKdnmDb+gm&KF<yA;kl#O{AV=BR(ZFxZ%dw2;u+?XRF&FRB$MCV(O<C8rype<7Tu55Fcj}aJM=(*"
    ),
}

_ARITHMETIC = (
    "|JeWF01!$>Nk#wx0RR9200961|JwkA5CA9u8~`2wBLE%%82~5%BLE=)BLFP`D*z|}FaSINWB@?`JODQUHvl{UdjMDfT>wb{WB`!>"
    "fB=~QmH>|cfB=jDiU6Phv;gJ+!vLTFssP#mtpJJui~z_15dg~o+5qkV^#K9_1OWm7n*hN98v!o?7y$YKECA*J{Q&|1`2WcO3kU!("
    "05Aao5di<p00saM5C#9*00;pA002J#z~XH$%zqQDEwxx9sfH4Uc&fX>=4PI@n34G{FlAw>5QZ)4XQPWovRR4&b@P`19RC2&dhzqf"
    "+Jk+IrK(ArT54t5A-R4sx%HG0P&NUVEZ+3<$jn<T%O!lq;(Jt$aCP)(%9G`vDNAAw-$7wH@iqC{-{OLL6v&2W{{Y(xE_6iT^qP>X"
    ">4^c8&jgSwpyhDm4$J=lGM#TS+U9Pm!)~bgt>OvUN&<CY{kI2rBf6Zp6StacDUIw`MIP?ny2?`j0Eg73gB%Z<;Tc}8UsfPcirYVZ"
    ")n#seE^m`Np`&E3?wQ>n*JI>PTT`X%Ml{f9{Q7IXEY5~5-VSg)ar&YSk>;y24(o;1N5#XoFf@iANcjDa00&9NYM4vj$>6{zJ9bOH"
    "R|3qPWH6-OizIxmZ>8O5s&(bFwm8_9E^S=u#UqSOfi)ZvM$<lcqzQK$g|&C_4)XSy-dy-FZDe}H7pS3V!O_-*ZP-bhje1?znazE}"
    "WZ^00EXU%OBH)~2p6Ma-(lq}78ihHM;gP&f*o_IlnKOaol#ZI2zS@gQmn~D0EtD6C98tU&`3wUpB$j51G9~LxRs!K6cY~byP#Q5^"
    "8&E2qDlK}Cvx&6TD^7y8lP1$|S3j$1jO?&yZxkBes<JP|9Ka2l_?*%96RPt=`Q8os^##hQ^R$O3{<O<w2uMB#12a86U7x#kg1!*Y"
    "X=QV#|Je"
)
